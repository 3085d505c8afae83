"""Times that come again: what is wrong is explained, and clocks that are changed lose nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from project.cron import Cron, CronError, zone_named

BERLIN = ZoneInfo("Europe/Berlin")  # 2026: forward on 29 March at 2:00, back on 25 October at 3:00
GREENWICH = ZoneInfo("UTC")
FIELDS = ((0, 59), (0, 23), (1, 28), (1, 12), (0, 7))


def at(text: str, zone: ZoneInfo = GREENWICH, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def times(text: str, zone: ZoneInfo, after: datetime, number: int) -> list[str]:
    return [f"{time.astimezone(zone):%d. %H:%M %z}" for time in Cron(text, zone).upcoming(after, number)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("@daily", "is written `0 0 * * *` here"),
        ("every day", "has 2 fields; write five fields"),
        ("", "has 0 fields"),
        ("0 0 2 * * *", "has 6 fields"),
        ("60 * * * *", '"60" is no minute: write 0 to 59'),
        ("0 24 * * *", '"24" is no hour: write 0 to 23'),
        ("0 0 0 * *", '"0" is no day of the month: write 1 to 31'),
        ("0 0 1 13 *", '"13" is no month: write 1 to 12, or JAN to DEC'),
        ("0 0 * * MONDAY", '"MONDAY" is no day of the week: write 0 to 7, or SUN to SAT'),
        ("*/0 * * * *", '"*/0" is no minute'),
        ("5-1 * * * *", '"5-1" is no minute'),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_right(text: str, reason: str) -> None:
    with pytest.raises(CronError) as caught:
        Cron(text, BERLIN)
    assert reason in str(caught.value)


def test_a_zone_that_there_is_not_is_told_with_the_nearest() -> None:
    with pytest.raises(LookupError, match=r'unknown time zone "Europe/Berln"; did you mean "Europe/Berlin"\?'):
        zone_named("Europe/Berln")


def test_a_time_of_day_that_is_left_out_in_spring_comes_at_the_next_minute_there_is() -> None:
    assert times("30 2 * * *", BERLIN, at("2026-03-27T12:00"), 3) == [
        "28. 02:30 +0100",
        "29. 03:00 +0200",
        "30. 02:30 +0200",
    ]
    assert times("0,30 2 * * *", BERLIN, at("2026-03-28T12:00"), 2) == ["29. 03:00 +0200", "30. 02:00 +0200"]


def test_a_time_of_day_that_is_there_twice_in_autumn_comes_once() -> None:
    twice = ["24. 02:30 +0200", "25. 02:30 +0200", "26. 02:30 +0100"]
    assert times("30 2 * * *", BERLIN, at("2026-10-23T12:00"), 3) == twice
    # Asked in the second round of that hour, too.
    assert times("30 2 * * *", BERLIN, at("2026-10-25T02:10", BERLIN, fold=1), 1) == ["26. 02:30 +0100"]


def test_every_hour_is_every_hour_when_clocks_change() -> None:
    assert times("0 * * * *", BERLIN, at("2026-03-29T00:30", BERLIN), 3) == [
        "29. 01:00 +0100",
        "29. 03:00 +0200",
        "29. 04:00 +0200",
    ]
    assert times("0 * * * *", BERLIN, at("2026-10-25T01:30", BERLIN), 3) == [
        "25. 02:00 +0200",
        "25. 02:00 +0100",
        "25. 03:00 +0100",
    ]


@pytest.mark.parametrize("text", ["* * * * *", "0 3 * * *", "*/7 1-3 * * *", "0 0 29 2 *", "* * * 1 *", "30 2 * * 0"])
def test_the_latest_of_many_is_found_in_no_time(text: str) -> None:
    cron, until = Cron(text, BERLIN), at("2026-11-24T13:00:30")
    first = cron.next(at("2008-01-01T00:00"))
    latest = cron.latest(first, until)
    assert first <= latest <= until < cron.next(latest)


def test_no_more_than_a_thousand_are_counted() -> None:
    cron = Cron("* * * * *", BERLIN)
    first = at("2026-01-01T00:00")
    assert cron.count(first, first) == 0
    assert cron.count(first, first + timedelta(minutes=5)) == 5
    assert cron.count(first, first + timedelta(days=300)) == 1000


@st.composite
def expressions(draw: st.DrawFn) -> str:
    def one(low: int, high: int) -> str:
        number = st.integers(low, high)
        some = st.lists(number, min_size=1, max_size=3).map(lambda found: ",".join(map(str, found)))
        between = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
        return draw(st.one_of(st.just("*"), some, between, st.integers(1, 20).map(lambda step: f"*/{step}")))

    return " ".join(one(*field) for field in FIELDS)


ZONES = [
    *map(
        ZoneInfo,
        ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"),
    )
]
# Near the changes of those zones, where anything could go wrong.
MOMENTS = st.tuples(
    st.sampled_from(
        [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC), datetime(2024, 2, 20, tzinfo=UTC)]
    ),
    st.integers(0, 30 * 24 * 3600),
).map(lambda chosen: chosen[0] + timedelta(seconds=chosen[1]))


@settings(deadline=None, max_examples=60)
@given(text=expressions(), zone=st.sampled_from(ZONES), moment=MOMENTS, hours=st.integers(0, 24 * 40))
def test_times_go_on_and_the_latest_is_one_of_them(text: str, zone: ZoneInfo, moment: datetime, hours: int) -> None:
    cron = Cron(text, zone)
    coming = cron.upcoming(moment, 5)
    assert coming == sorted(set(coming))
    assert coming[0] > moment
    # Nobody's question changes the answer: asked a second before a time, that time is the next.
    assert [cron.next(time - timedelta(seconds=1)) for time in coming] == coming

    until = coming[0] + timedelta(hours=hours)
    latest = cron.latest(coming[0], until)
    assert coming[0] <= latest <= until < cron.next(latest)
    walked = coming[0]
    for _ in range(200):
        if (following := cron.next(walked)) > until:
            assert latest == walked
            assert cron.count(coming[0], latest) <= 1000
            break
        walked = following
