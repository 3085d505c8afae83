"""`transform` and `fail`."""

import pytest

from tests.workflows.actions.calls import run_one
from workflows.actions import StepError

pytestmark = pytest.mark.django_db


def test_transform_hands_its_values_on() -> None:
    for values in ({"a": [1, None]}, "text", 5, None):
        assert run_one("transform", values=values) == values


def test_fail_fails_for_good_with_its_message() -> None:
    with pytest.raises(StepError, match="out of stock") as error:
        run_one("fail", message="out of stock")
    assert error.value.permanent
