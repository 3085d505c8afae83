"""Shares, rate limits and the health of lanes, as pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications import lanes
from notifications.lanes import Happened, Health, Pace, Window, judge, share
from project.rates import Rate

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.integers(0, 1000), st.lists(st.integers(0, 300), max_size=30))
def test_shares_are_fair(free: int, wants: list[int]) -> None:
    given_ = share(free, wants)
    assert all(0 <= got <= want for got, want in zip(given_, wants, strict=True))
    assert sum(given_) == min(free, sum(wants))  # no slot is left while somebody wants one
    unsatisfied = [got for got, want in zip(given_, wants, strict=True) if got < want]
    # Who got less than it wanted got as much as anybody, but for the last odd slots.
    assert all(got >= max(given_) - 1 for got in unsatisfied)


@given(
    st.integers(1, 200),
    st.sampled_from("smh"),
    st.lists(st.tuples(st.floats(0, 0.4), st.integers(1, 300)), min_size=1, max_size=60),
)
def test_a_rate_is_never_passed_wherever_one_begins_to_count(
    count: int, unit: str, asks: list[tuple[float, int]]
) -> None:
    rate = Rate.parse(f"{count}/{unit}")
    pace = Pace.of(rate)
    now, next_at = NOW, NOW
    sent: list[datetime] = []
    for pause, wanted in asks:
        now += timedelta(seconds=pause * rate.per_seconds)
        allowed = min(wanted, pace.allowance(next_at, now))
        sent += [now] * allowed
        next_at = max(next_at, now) + timedelta(seconds=allowed * pace.interval)
    period = timedelta(seconds=rate.per_seconds) - timedelta(milliseconds=1)
    for begin in sent:
        assert sum(begin <= at < begin + period for at in sent) <= count


@pytest.mark.parametrize("written", ["1/s", "5/s", "10/s", "500/s", "100/h"])
def test_a_rate_is_used_up_when_there_is_enough_to_send(written: str) -> None:
    rate = Rate.parse(written)
    pace = Pace.of(rate)
    now, next_at, sent = NOW, NOW, 0
    while now < NOW + timedelta(seconds=10 * rate.per_seconds):
        allowed = pace.allowance(next_at, now)
        sent += allowed
        next_at = max(next_at, now) + timedelta(seconds=allowed * pace.interval)
        now = max(now + timedelta(milliseconds=1), pace.opens_at(next_at))
    assert 9 * rate.count <= sent <= 11 * rate.count


def troubled(health: Health, times: int = 1, after: timedelta = timedelta(0), **fields: object) -> Health:
    return judge(health, Happened(troubled=times, trouble="500 oh no", **fields), NOW + after)  # type: ignore[arg-type]


def test_a_lane_is_held_after_five_failures_in_a_row_and_each_probe_that_fails_doubles_the_time() -> None:
    health = Health()
    for _ in range(4):
        health = troubled(health)
        assert not health.held(NOW)
    holds, at = [], timedelta(0)
    for _ in range(9):
        health = troubled(health, after=at)
        assert health.hold_until is not None
        holds.append((health.hold_until - NOW - at).total_seconds())
        at = health.hold_until - NOW
    assert holds == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert health.probing
    assert judge(health, Happened(delivered=1), NOW + at) == Health()


def test_what_began_before_the_hold_does_not_lengthen_it() -> None:
    held = troubled(Health(), times=50)
    assert troubled(held, times=50, after=timedelta(seconds=1)) == held


def test_one_success_among_failures_keeps_a_lane_open() -> None:
    health = judge(Health(failures=4, failing_since=NOW), Happened(delivered=1, troubled=20), NOW)
    assert health == Health()


def test_a_refused_message_shows_that_the_far_side_is_well_but_is_no_success() -> None:
    before = Health(failures=6, failing_since=NOW, hold_until=NOW, hold_reason="x")
    assert judge(before, Happened(refused=1), NOW) == Health(failing_since=NOW)


def test_retry_after_holds_a_lane_and_a_success_does_not_end_it() -> None:
    health = troubled(Health(), retry_after=timedelta(seconds=60))
    assert health.hold_until == NOW + timedelta(seconds=60)
    assert judge(health, Happened(delivered=1), NOW).hold_until == health.hold_until


def test_a_lane_is_switched_off_after_three_days_without_a_success_and_then_has_three_more() -> None:
    health = troubled(Health(failing_since=NOW - lanes.SWITCHED_OFF_AFTER + timedelta(seconds=1)))
    assert health.enabled
    health = troubled(health, after=timedelta(seconds=1))
    assert not health.enabled
    assert health.hold_reason == "switched off: no success since 2025-12-29 00:00 UTC; 500 oh no"
    assert health.failing_since is None


def test_a_window_grows_with_successes_and_halves_with_trouble() -> None:
    window = Window()
    for _ in range(100):
        window.delivered(most=50)
    assert window.size == 50
    for size in (25, 12, 6, 3, 1, 1):
        window.troubled()
        assert window.size == size
