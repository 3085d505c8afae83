"""What failed in a channel is sent again, any number of deliveries, a batch at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from notifications import recovery
from notifications.models import Channel, Delivery, DeliveryState, Recovery
from notifications.recovery import drain, lost, recover
from project.stage import stages
from tests.live import wait_until
from tests.notifications.conftest import MakeChannel, MakeSender
from tests.notifications.test_delivery import settled, states, tell
from tests.sinks import Answer, HttpSink

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timedelta(days=1)


def failed(name: str, times: int, *, ago: timedelta = timedelta()) -> list[Delivery]:
    """Deliveries that failed for good, so long ago."""
    made = tell(f"channel:{name}", times=times)
    Delivery.objects.filter(pk__in=[row.pk for row in made]).update(
        state=DeliveryState.FAILED, reason="no", due_at=None, attempts=8, finished_at=timezone.now() - ago
    )
    return made


def test_only_what_failed_in_that_channel_and_time_is_sent_again(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops")
    webhook("other")
    wanted, older = failed("ops", 3), failed("ops", 2, ago=LONG_AGO)
    elsewhere = failed("other", 2)
    skipped = tell("channel:ops")
    Delivery.objects.filter(pk=skipped[0].pk).update(state=DeliveryState.SKIPPED, due_at=None)
    row = recover(channel, timezone.now() - timedelta(hours=1), "ada")
    assert (row.found, row.sent) == (3, 0)
    assert stages["notifications.recover"].drain_for(5) == ({"recoveries": 1, "deliveries": 3}, False)
    start_sender().drain()
    assert {it.state for it in settled(wanted)} == {DeliveryState.DELIVERED}
    assert set(states([*older, *elsewhere])) == {DeliveryState.FAILED}
    assert states(skipped) == [DeliveryState.SKIPPED]
    assert len(http_sink.to("/ops")) == 3
    row.refresh_from_db()
    assert (row.sent, row.due_at, row.started_by) == (3, None, "ada")
    assert row.finished_at is not None


def test_it_goes_on_batch_by_batch_and_tells_how_far_it_has_come(
    webhook: MakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "BATCH", 2)
    channel = webhook("ops")
    failed("ops", 5)
    row = recover(channel, timezone.now() - LONG_AGO)
    told = []
    while drain():
        row.refresh_from_db()
        told.append((row.sent, row.due_at is not None))
    assert told == [(2, True), (4, True), (5, False)]
    assert not lost(channel, timezone.now() - LONG_AGO).exists()


def test_what_fails_once_more_is_not_sent_a_third_time(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "BATCH", 1)
    http_sink.answers["/ops"] = [Answer(400, b"still no")]
    channel = webhook("ops")
    made = failed("ops", 3)
    recover(channel, timezone.now() - LONG_AGO)
    sender = start_sender()
    for _ in range(3):
        drain()
        sender.drain()
        settled(made)
    assert set(states(made)) == {DeliveryState.FAILED}
    while drain():
        sender.drain()
    settled(made)
    assert len(http_sink.requests) == 3
    assert Recovery.objects.get().sent == 3


def test_two_recoveries_at_once_come_both_to_their_end(webhook: MakeChannel) -> None:
    first, second = webhook("first"), webhook("second")
    failed("first", 2)
    failed("second", 3)
    for channel in (first, second):
        recover(channel, timezone.now() - LONG_AGO)
    counts, left = stages["notifications.recover"].drain_for(5)
    assert (counts, left) == ({"recoveries": 2, "deliveries": 5}, False)


def test_a_recovery_with_nothing_to_do_ends_at_once(webhook: MakeChannel) -> None:
    recover(webhook("ops"), timezone.now() - LONG_AGO)
    assert drain() == {"recoveries": 1, "deliveries": 0}
    assert drain() == {}


def test_a_broken_off_batch_is_done_again(webhook: MakeChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = webhook("ops")
    made = failed("ops", 3)
    row = recover(channel, timezone.now() - LONG_AGO)

    def dies(deliveries: object) -> int:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "retry", dies)
        with pytest.raises(RuntimeError):
            drain()
    row.refresh_from_db()
    assert (row.sent, row.due_at is not None) == (0, True)
    assert set(states(made)) == {DeliveryState.FAILED}
    assert drain() == {"recoveries": 1, "deliveries": 3}


def test_the_search_for_what_failed_reads_only_what_failed(webhook: MakeChannel) -> None:
    channel = webhook("ops")
    tell("channel:ops", times=300)
    failed("ops", 2)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_delivery")
    assert "delivery_to_recover" in lost(channel, timezone.now() - LONG_AGO).explain()


def test_a_channel_that_switched_itself_off_recovers_when_it_is_enabled(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops")
    since = timezone.now() - timedelta(days=3, minutes=1)
    Channel.objects.update(failing_since=since)
    http_sink.answers["/ops"] = [Answer(500), Answer()]
    made = tell("channel:ops", times=2)
    sender = start_sender(slots=1)
    wait_until(lambda: sender.drain() is not None and not Channel.objects.get().enabled)
    Delivery.objects.filter(state=DeliveryState.PENDING).update(due_at=timezone.now() - timedelta(seconds=1))
    sender.drain()
    settled(made)
    Channel.objects.update(enabled=True, hold_reason="")
    recover(channel, since)
    drain()
    wait_until(lambda: sender.drain() is not None and set(states(made)) == {DeliveryState.DELIVERED})
