"""In a paused channel everything waits and nothing fails, until somebody resumes it."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.doctor import channels as examined
from notifications.models import Attempt, Channel, Delivery, DeliveryState
from notifications.pausing import pause, resume
from tests.live import wait_until
from tests.notifications.conftest import MakeChannel, MakeSender
from tests.notifications.test_delivery import make_due, settled, states, tell
from tests.sinks import Answer, HttpSink

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_is_due_waits_and_goes_out_when_the_channel_is_resumed(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    quiet, other = webhook("quiet"), webhook("other")
    waiting = tell("channel:quiet", times=3)
    assert pause(Channel.objects.filter(pk=quiet.pk), "by ada: they move house") == 1
    waiting += tell("channel:quiet", times=2)  # what comes meanwhile is made as ever
    going = tell("channel:other")
    sender = start_sender()
    assert sender.drain() == {"claimed": 1}
    settled(going)
    time.sleep(0.3)
    assert set(states(waiting)) == {DeliveryState.PENDING}
    assert http_sink.to("/quiet") == []
    assert not Attempt.objects.exclude(delivery__channel=other).exists()
    quiet.refresh_from_db()
    assert quiet.pause_reason == "by ada: they move house"

    assert resume(Channel.objects.filter(pk=quiet.pk)) == 1
    assert sender.drain() == {"claimed": 5}
    assert {row.state for row in settled(waiting)} == {DeliveryState.DELIVERED}
    quiet.refresh_from_db()
    assert (quiet.paused_at, quiet.pause_reason) == (None, "")


def test_an_attempt_under_way_comes_to_its_end_and_its_retry_waits(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops", retry_schedule=["0s", "0s", "0s"])
    http_sink.answers["/ops"] = [Answer(500, delay=0.5), Answer()]
    made = tell("channel:ops")
    sender = start_sender()
    sender.drain()
    http_sink.wait_for(1)
    pause(Channel.objects.all())
    wait_until(Attempt.objects.exists)
    sender.drain()
    time.sleep(0.3)
    row = Delivery.objects.get()
    assert (row.state, row.attempts, row.leased) == (DeliveryState.PENDING, 1, False)
    assert len(http_sink.requests) == 1
    resume(Channel.objects.all())
    sender.drain()
    settled(made)
    assert len(http_sink.requests) == 2


def test_pausing_twice_keeps_the_first_time_and_reason(webhook: MakeChannel) -> None:
    channel = webhook("ops")
    assert pause(Channel.objects.all(), "by ada") == 1
    channel.refresh_from_db()
    first = channel.paused_at
    assert pause(Channel.objects.all(), "by grace") == 0
    channel.refresh_from_db()
    assert (channel.paused_at, channel.pause_reason) == (first, "by ada")
    assert resume(Channel.objects.all()) == 1
    assert resume(Channel.objects.all()) == 0


def test_a_channel_that_is_disabled_while_it_is_paused_writes_off_what_waits(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops")
    made = tell("channel:ops")
    pause(Channel.objects.all())
    channel.enabled = False
    channel.save(update_fields=["enabled"])
    start_sender().drain()
    (row,) = settled(made)
    assert (row.state, row.reason) == (DeliveryState.FAILED, "channel ops is disabled")
    assert http_sink.requests == []


def test_nobody_is_rung_for_a_paused_channel_and_it_is_no_backlog(webhook: MakeChannel) -> None:
    webhook("quiet")
    waiting = tell("channel:quiet", times=3)
    Delivery.objects.update(due_at=timezone.now() - timedelta(minutes=5))
    rows = Delivery.objects
    assert (rows.any_due(), rows.overdue()) == (True, 3)
    assert rows.backlog_age() > 299
    pause(Channel.objects.all())
    assert (rows.any_due(), rows.overdue(), rows.backlog_age()) == (False, 0, 0.0)
    webhook("other")
    tell("channel:other")
    assert rows.any_due()
    resume(Channel.objects.all())
    make_due(waiting)
    assert rows.any_due()


def test_overdue_rows_are_counted_up_to_a_bound(webhook: MakeChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.queries.COUNTED", 4)
    for name in ("a", "b"):
        webhook(name)
        tell(f"channel:{name}", times=3)
    Delivery.objects.update(due_at=timezone.now() - timedelta(minutes=5))
    assert Delivery.objects.overdue() == 4


def test_a_pause_does_not_count_towards_switching_a_channel_off(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops")
    http_sink.answers["/ops"] = [Answer(500)]
    Channel.objects.update(failing_since=timezone.now() - timedelta(days=4), failures=1)
    pause(Channel.objects.all())
    resume(Channel.objects.all())
    tell("channel:ops")
    start_sender().drain()
    wait_until(Attempt.objects.exists)
    wait_until(lambda: Channel.objects.filter(failing_since__isnull=False).exists())
    channel.refresh_from_db()
    assert channel.enabled


def test_the_doctor_says_that_it_is_paused_and_finds_nothing_wrong_with_that(webhook: MakeChannel) -> None:
    webhook("ops")
    pause(Channel.objects.all(), "by ada")
    (finding,) = examined()
    assert finding.wrong == ""
    assert finding.note.startswith("paused by ada, since ")
