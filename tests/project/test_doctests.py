"""The examples in the kernel's docstrings hold."""

import doctest
from types import ModuleType

import pytest

from project import celerybroker, databases, durations, fields, identifiers, names, rates, retry, secrets
from project.brokers import urls


@pytest.mark.parametrize(
    "module",
    [celerybroker, databases, durations, fields, identifiers, names, rates, retry, secrets, urls],
    ids=lambda module: module.__name__,
)
def test_the_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
