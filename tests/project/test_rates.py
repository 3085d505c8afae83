"""Rates are read as people write them."""

import pytest
from pydantic import BaseModel, ValidationError

from project.rates import Rate


class Lane(BaseModel):
    rate_limit: Rate | None = None


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("500/s", Rate(500, 1)),
        ("1/s", Rate(1, 1)),
        ("30/m", Rate(30, 60)),
        ("1000/h", Rate(1000, 3600)),
        ("5/d", Rate(5, 86400)),
    ],
)
def test_a_rate_is_read_and_written_back(written: str, rate: Rate) -> None:
    assert Rate.parse(written) == rate
    assert str(rate) == written


def test_the_interval_is_the_seconds_between_two() -> None:
    assert Rate.parse("30/m").interval == 2
    assert Rate.parse("500/s").interval == 0.002


@pytest.mark.parametrize("written", ["", "fast", "0/s", "-1/s", "1/w", "1.5/s", "1 / s", "1/s\n", 5, None])
def test_what_is_no_rate_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="is not a rate; write for example 500/s, 30/m or 1000/h"):
        Rate.parse(written)


def test_a_field_takes_and_writes_text() -> None:
    lane = Lane.model_validate({"rate_limit": "30/m"})
    assert lane.rate_limit == Rate(30, 60)
    assert lane.model_dump() == {"rate_limit": "30/m"}
    assert Lane.model_validate(lane.model_dump()) == lane
    assert Lane.model_json_schema()["properties"]["rate_limit"]["anyOf"][0]["type"] == "string"
    with pytest.raises(ValidationError, match="is not a rate"):
        Lane.model_validate({"rate_limit": "fast"})
