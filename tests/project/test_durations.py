"""Durations are read as people write them, and what cannot be one is refused with an example."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from project.durations import Duration, format_duration, parse_duration


class Step(BaseModel):
    timeout: Duration = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30),
        ("15m", 900),
        ("2h", 7200),
        ("7d", 604800),
        ("1h30m", 5400),
        ("0s", 0),
        ("1.5s", 1.5),
        (45, 45),
        (0, 0),
    ],
)
def test_a_duration_is_read(written: str | int, seconds: float) -> None:
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written", ["", "soon", "5", "30m1h", "1h 30m", "-5s", "1.5h", "5S", "٣s", "5s\n", None, True, 1.5, []]
)
def test_what_is_no_duration_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="is not a duration; write for example 30s, 15m, 2h, 7d or 1h30m"):
        parse_duration(written)


@pytest.mark.parametrize("written", [-1, timedelta(seconds=-1)])
def test_a_negative_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is negative"):
        parse_duration(written)


@pytest.mark.parametrize("written", ["3651d", "9" * 400 + "s", 10**30])
def test_a_duration_longer_than_ten_years_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="the longest duration is 3650d"):
        parse_duration(written)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650)))
@settings(database=None, deadline=None)
def test_what_is_written_is_read_back(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value


def test_a_field_takes_text_and_seconds_and_is_written_as_text() -> None:
    assert Step.model_validate({"timeout": "2h"}).timeout == timedelta(hours=2)
    assert Step.model_validate({"timeout": 90}).model_dump() == {"timeout": "1m30s"}
    assert Step().model_dump_json() == '{"timeout":"1m"}'
    assert Step.model_json_schema()["properties"]["timeout"]["type"] == "string"
    with pytest.raises(ValidationError, match="is not a duration"):
        Step.model_validate({"timeout": "soon"})
