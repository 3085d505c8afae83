"""Retry schedules: how often, how long between, and what a Retry-After changes."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from pydantic import ValidationError

from project.retry import RetryPolicy, Schedule, parse_retry_after

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_a_policy_is_read_as_a_workflow_writes_it() -> None:
    policy = RetryPolicy.model_validate({"attempts": 5, "delay": "10s", "factor": 2, "max_delay": "30s"})
    delays = [policy.delay_after(attempt) for attempt in range(1, 6)]
    assert delays == [*(timedelta(seconds=seconds) for seconds in (10, 20, 30, 30)), None]


def test_the_largest_policy_does_not_overflow() -> None:
    policy = RetryPolicy.model_validate({"attempts": 100, "delay": "1d", "factor": 100, "max_delay": "3650d"})
    assert policy.delay_after(99) == timedelta(days=3650)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"attempt": 5}, "Extra inputs are not permitted"),
        ({"attempts": 0}, "greater than or equal to 1"),
        ({"factor": 0.5}, "greater than or equal to 1"),
        ({"factor": "nan"}, "finite number"),
        ({"delay": "soon"}, "is not a duration"),
        ({"delay": "1h", "max_delay": "5m"}, "max_delay 5m is shorter than delay 1h"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_reason(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RetryPolicy.model_validate(wrong)


def test_the_default_schedule_tries_at_once_and_seven_times_more() -> None:
    schedule = Schedule()
    assert schedule.model_dump(mode="json") == ["0s", "5s", "30s", "2m", "10m", "1h", "4h", "12h"]
    assert schedule.delay_after(0) == timedelta(0)
    assert schedule.delay_after(7) == timedelta(hours=12)
    assert schedule.delay_after(8) is None


def test_jitter_stays_within_a_fifth_and_spreads() -> None:
    random = Random(1)
    delays = [Schedule().delay_after(5, jitter=random) for _ in range(200)]
    assert all(delay is not None and timedelta(minutes=48) <= delay <= timedelta(minutes=72) for delay in delays)
    assert len(set(delays)) > 100


def test_a_longer_retry_after_wins_up_to_a_day_and_a_shorter_one_does_not() -> None:
    schedule = Schedule()
    assert schedule.delay_after(1, retry_after=timedelta(minutes=3)) == timedelta(minutes=3)
    assert schedule.delay_after(6, retry_after=timedelta(minutes=3)) == timedelta(hours=4)
    assert schedule.delay_after(1, retry_after=timedelta(days=30)) == timedelta(hours=24)
    assert schedule.delay_after(8, retry_after=timedelta(minutes=3)) is None


@pytest.mark.parametrize("wrong", [[], ["0s"] * 101])
def test_a_schedule_has_1_to_100_delays(wrong: list[str]) -> None:
    with pytest.raises(ValidationError, match="a retry schedule has 1 to 100 delays"):
        Schedule.model_validate(wrong)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("0", timedelta(0)),
        (" 120 ", timedelta(minutes=2)),
        ("9" * 5000, timedelta(hours=24)),
        ("Sun, 01 Mar 2026 12:01:00 GMT", timedelta(minutes=1)),
        ("Sun, 01 Mar 2026 12:01:00 -0000", timedelta(minutes=1)),
        ("Sunday, 01-Mar-26 12:01:00 GMT", timedelta(minutes=1)),
        ("Sun, 01 Mar 2026 11:00:00 GMT", timedelta(0)),
        ("Sun, 01 Mar 2037 11:00:00 GMT", timedelta(hours=24)),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("later", None),
        ("Sun, 99 Mar 2026 12:01:00 GMT", None),
        ("Sun, 01 Mar 99999999999 12:01:00 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_a_retry_after_header_is_read(header: str | None, wait: timedelta | None) -> None:
    assert parse_retry_after(header, now=NOW) == wait
