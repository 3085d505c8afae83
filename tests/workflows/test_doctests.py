"""The examples in docstrings are tests, too."""

import doctest
from types import ModuleType

import pytest

from workflows import definition, performer
from workflows.actions import record
from workflows.foreign import statement


@pytest.mark.parametrize("module", [definition, performer, record, statement], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
