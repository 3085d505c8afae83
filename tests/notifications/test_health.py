"""How channels fare, told from so many rows and no more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications import health
from notifications.models import Attempt, Channel, Delivery, DeliveryState, Outcome
from project.identifiers import first_uid_at

pytestmark = pytest.mark.django_db


@pytest.fixture
def channel() -> Channel:
    return Channel.objects.create(name="ops", type="slack", settings={"url": "https://example.com/hooks/x"})


def sent(channel: Channel, state: str, *, ago: timedelta = timedelta(), ms: int = 10, said: str = "ok") -> Delivery:
    """A delivery that was made so long ago, with one attempt."""
    made = timezone.now() - ago
    row = Delivery.objects.create(
        uid=first_uid_at(made) if ago else Delivery().uid,
        channel=channel,
        kind="slack",
        message={},
        state=state,
        due_at=timezone.now() if state == DeliveryState.PENDING else None,
        finished_at=made,
    )
    outcome = {DeliveryState.DELIVERED: Outcome.DELIVERED, DeliveryState.FAILED: Outcome.FAILED}
    if state != DeliveryState.SKIPPED:
        Attempt.objects.create(
            delivery=row,
            number=1,
            at=made,
            outcome=outcome.get(DeliveryState(state), Outcome.RETRY),
            status=200,
            response=said,
            ms=ms,
        )
    return row


def test_success_counts_what_came_to_an_end_in_the_time(channel: Channel) -> None:
    for state in ("delivered", "delivered", "delivered", "failed", "pending", "skipped"):
        sent(channel, state)
    sent(channel, "failed", ago=timedelta(hours=2))
    sent(channel, "failed", ago=timedelta(days=2))
    hour, day = (health.fared(channel, within) for within in health.WITHIN.values())
    assert (str(hour.delivered), str(hour.failed), str(hour.pending)) == ("3", "1", "1")
    assert (hour.success, day.success) == (75.0, 60.0)
    assert str(health.waiting(channel)) == "1"


def test_of_many_the_newest_are_told_and_that_there_are_more(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MOST", 3)
    for minutes, state in ((50, "failed"), (40, "failed"), (3, "delivered"), (2, "delivered"), (1, "delivered")):
        sent(channel, state, ago=timedelta(minutes=minutes))
    told = health.fared(channel, timedelta(hours=1))
    assert (str(told.delivered), told.success) == ("3+", 100.0)


def test_a_channel_without_deliveries_has_no_success_and_no_failure(channel: Channel) -> None:
    assert health.fared(channel, timedelta(hours=1)).success is None
    assert list(health.errors(channel)) == []
    assert list(health.slowest()) == []


def test_errors_are_the_latest_attempts_that_failed_final_or_not(channel: Channel) -> None:
    other = Channel.objects.create(name="other", type="slack", settings={"url": "https://example.com/hooks/x"})
    sent(other, "failed", said="elsewhere")
    sent(channel, "failed", ago=timedelta(minutes=2), said="gone")
    sent(channel, "delivered")
    sent(channel, "pending", ago=timedelta(minutes=1), said="not now")
    assert [attempt.response for attempt in health.errors(channel)] == ["not now", "gone"]


def test_the_slowest_channels_come_first_with_their_percentiles(channel: Channel) -> None:
    slow = Channel.objects.create(name="slow", type="slack", settings={"url": "https://example.com/hooks/x"})
    for ms in (10, 20, 30):
        sent(channel, "delivered", ms=ms)
    for ms in (900, 1000, 5000):
        sent(slow, "delivered", ms=ms)
    sent(channel, "delivered", ms=60_000, ago=timedelta(hours=3))
    assert [(pace.name, pace.attempts, pace.half, pace.most, pace.longest) for pace in health.slowest()] == [
        ("slow", 3, 1000, 5000, 5000),
        ("ops", 3, 20, 30, 30),
    ]


def test_failures_are_told_by_channel_with_the_newest(channel: Channel) -> None:
    sent(channel, "failed", ago=timedelta(hours=2))
    newest = sent(channel, "failed")
    sent(channel, "failed", ago=timedelta(days=2))
    sent(channel, "delivered")
    (group,) = health.failures()
    assert (group.value, str(group.count), group.first) == (channel.pk, "2", newest.pk)


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({}, "healthy"),
        ({"failing_since": timezone.now()}, "failing"),
        ({"failing_since": timezone.now(), "hold_until": timezone.now() + timedelta(hours=1)}, "on hold"),
        ({"hold_until": timezone.now() - timedelta(hours=1)}, "healthy"),
        ({"paused_at": timezone.now(), "hold_until": timezone.now() + timedelta(hours=1)}, "paused"),
        ({"paused_at": timezone.now(), "enabled": False}, "disabled"),
    ],
)
def test_a_word_says_how_a_channel_is(columns: dict[str, object], word: str) -> None:
    assert health.word(Channel(name="ops", type="slack", **columns)) == word
