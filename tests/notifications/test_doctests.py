"""The examples in the docstrings hold."""

import doctest
from types import ModuleType

import pytest

from notifications import lanes, preferences, rendering
from notifications.channels import amazon, broker, cloud_event, slack


@pytest.mark.parametrize(
    "module",
    [amazon, broker, cloud_event, lanes, preferences, rendering, slack],
    ids=lambda module: module.__name__,
)
def test_the_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
