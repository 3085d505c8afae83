"""What is wrong with fields, in words."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from project.fields import complaints
from project.retry import RetryPolicy


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    to: list[str]
    size: int | float = 1
    retry: RetryPolicy | None = None
    on_error: Literal["fail", "continue"] = "fail"
    if_: str = Field("", alias="if")

    @field_validator("to")
    @classmethod
    def _somebody(cls, to: list[str]) -> list[str]:
        if not to:
            raise ValueError("name somebody")
        return to


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"to": ["a"], "if": "x"}, []),
        ({}, [(("to",), "this field is required")]),
        ({"to": []}, [(("to",), "name somebody")]),
        ({"to": "a"}, [(("to",), 'should be a list, not "a"')]),
        ({"to": ["a", 5]}, [(("to", 1), "should be text, not 5")]),
        (
            {"to": ["a"], "tos": 1},
            [(("tos",), 'unknown field "tos", did you mean "to"? known: to, size, retry, on_error, if')],
        ),
        (
            {"to": ["a"], "if_": "x"},
            [(("if_",), 'unknown field "if_", did you mean "if"? known: to, size, retry, on_error, if')],
        ),
        ({"to": ["a"], "size": "big"}, [(("size",), "should be a valid integer, unable to parse")]),
        ({"to": ["a"], "on_error": "stop"}, [(("on_error",), "should be 'fail' or 'continue', not \"stop\"")]),
        ({"to": ["a"], "retry": 3}, [(("retry",), "should be a map of fields, not 3")]),
        (
            {"to": ["a"], "retry": {"attempt": 3}},
            [
                (
                    ("retry", "attempt"),
                    'unknown field "attempt", did you mean "attempts"? known: attempts, delay, factor, max_delay',
                )
            ],
        ),
        (
            {"to": ["a"], "retry": {"delay": "soon"}},
            [(("retry", "delay"), '"soon" is not a duration; write for example 30s')],
        ),
    ],
)
def test_each_fault_is_told_with_its_place(given: dict[str, Any], expected: list[tuple[Any, str]]) -> None:
    found = complaints(Settings, given)
    assert [path for path, _ in found] == [path for path, _ in expected]
    for (_, message), (_, start) in zip(found, expected, strict=True):
        assert message.startswith(start)


def test_what_is_not_known_yet_is_not_complained_about() -> None:
    def later(value: Any) -> bool:
        return value == "?" or (isinstance(value, list | dict) and any(map(later, value)))

    assert complaints(Settings, {"to": "?", "size": "?", "retry": "?"}, unless=later) == []
    assert complaints(Settings, {"size": "?", "tos": "?"}, unless=later) == [
        (("to",), "this field is required"),
        (("tos",), 'unknown field "tos", did you mean "to"? known: to, size, retry, on_error, if'),
    ]
