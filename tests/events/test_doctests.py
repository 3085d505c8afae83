"""The examples in the docstrings hold."""

import doctest
from types import ModuleType

import pytest

from events import dry_run, shape


@pytest.mark.parametrize("module", [dry_run, shape], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
