"""What every action owes: the same suite for each of them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from workflows.actions import Action, NetworkAction, OutsideAction, actions
from workflows.actions.base import Performed

OURS = {name: cls for name, cls in actions.items() if cls.__module__.startswith("workflows.actions.")}
every_action = pytest.mark.parametrize("cls", OURS.values(), ids=OURS)


def test_there_are_those_that_the_reference_tells_of() -> None:
    assert sorted(OURS) == [
        "approval",
        *("database.delete", "database.insert", "database.update", "database.upsert"),
        *("debounce", "delay", "digest", "fail", "http.request", "notify", "publish"),
        *("record.delete", "record.patch", "record.put"),
        *("sql.execute", "sql.upsert"),
        *("task.call", "throttle", "transform", "workflow.run"),
    ]


@every_action
def test_it_says_what_it_does(cls: type[Action]) -> None:
    assert cls.__doc__


@every_action
def test_it_does_something(cls: type[Action]) -> None:
    if issubclass(cls, Performed):
        assert cls.perform not in (OutsideAction.perform, NetworkAction.perform)  # type: ignore[attr-defined]
    else:
        assert cls.run is not Action.run or cls.run_batch.__func__ is not Action.run_batch.__func__  # type: ignore[attr-defined]


@every_action
def test_it_refuses_fields_that_it_does_not_know(cls: type[Action]) -> None:
    with pytest.raises(ValidationError, match="no_such_field"):
        cls.model_validate({"no_such_field": 1})


@every_action
def test_a_form_could_be_made_of_its_fields(cls: type[Action]) -> None:
    assert cls.model_json_schema()["properties"]
