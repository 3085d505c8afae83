"""A pending delivery is sent, retried, given up or handed to a fallback, and all of it is recorded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from notifications.channels.base import Receipt, SendError
from notifications.compose import Request, compose
from notifications.delivery import Done, cancel, claim, record, retry
from notifications.models import Attempt, Channel, Delivery, DeliveryState, Template
from notifications.sender import Sender
from tests.live import wait_until
from tests.notifications.conftest import MakeChannel, MakeSender
from tests.sinks import Answer, HttpSink, SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = ["0s", "0s", "0s"]


def tell(*to: str, times: int = 1, **fields: Any) -> list[Delivery]:
    """Deliveries of `times` notifications, which webhooks see as {"n": number}."""
    requests = [Request(uuid4(), to, data={"n": n}, **fields) for n in range(times)]
    return [row for rows in compose(requests) for row in rows]


def states(rows: Sequence[Delivery]) -> list[str]:
    return list(
        Delivery.objects.filter(uid__in=[row.uid for row in rows]).order_by("uid").values_list("state", flat=True)
    )


def settled(rows: Sequence[Delivery], *, seconds: float = 15) -> list[Delivery]:
    """The rows once none of them is pending."""
    uids = [row.uid for row in rows]
    pending = Delivery.objects.filter(uid__in=uids, state=DeliveryState.PENDING)
    wait_until(lambda: not pending.exists(), seconds=seconds, what="every delivery came to its end")
    return list(Delivery.objects.filter(uid__in=uids).order_by("uid"))


def attempts(row: Delivery) -> list[tuple[int, str, int | None]]:
    return list(row.tries.order_by("number").values_list("number", "outcome", "status"))


def make_due(rows: Sequence[Delivery]) -> None:
    Delivery.objects.filter(uid__in=[row.uid for row in rows]).update(due_at=timezone.now() - timedelta(seconds=1))


def all_room(channel: Any) -> int:
    return 1000


def test_a_delivery_arrives_and_its_attempt_is_recorded(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops")
    (made,) = tell("channel:ops")
    assert start_sender().drain() == {"claimed": 1}
    (row,) = settled([made])
    assert (row.state, row.due_at, row.leased, row.attempts) == (DeliveryState.DELIVERED, None, False, 1)
    assert row.finished_at is not None
    (attempt,) = row.tries.all()
    assert (attempt.number, attempt.outcome, attempt.status, attempt.response) == (1, "delivered", 200, "ok")
    assert abs((attempt.at - timezone.now()).total_seconds()) < 10
    (request,) = http_sink.to("/ops")
    assert request.headers["webhook-id"] == str(row.uid)


def test_a_failed_attempt_is_retried_after_the_schedules_pause_with_jitter(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops", retry_schedule=["0s", "1s", "1s"])
    http_sink.answers["/ops"] = [Answer(500, b"oh no"), Answer(502), Answer(200)]
    made = tell("channel:ops")
    sender = start_sender()
    sender.drain()
    http_sink.wait_for(1)
    wait_until(lambda: Attempt.objects.count() == 1)
    row = Delivery.objects.get()
    assert row.due_at is not None
    pause = (row.due_at - row.tries.get().at).total_seconds()
    assert 0.75 <= pause <= 1.35
    wait_until(lambda: sender.drain() is not None and Attempt.objects.count() == 3, seconds=10)
    (row,) = settled(made)
    assert attempts(row) == [(1, "retry", 500), (2, "retry", 502), (3, "delivered", 200)]
    assert row.tries.get(number=1).response == "oh no"


def test_retry_after_is_obeyed_and_holds_the_whole_channel(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops", retry_schedule=AT_ONCE)
    http_sink.answers["/ops"] = [Answer(429, b"slow down", headers={"Retry-After": "2"}), Answer()]
    made = tell("channel:ops")
    sender = start_sender()
    sender.drain()
    wait_until(lambda: Attempt.objects.count() == 1)
    channel.refresh_from_db()
    assert channel.hold_until is not None
    assert channel.hold_reason == "asked to wait: 429 slow down"
    made += tell("channel:ops")  # due at once, but its channel is not to be called now
    sender.drain()
    settled(made)  # it wakes by itself when the time is over
    first, *later = http_sink.to("/ops")
    assert len(later) == 2
    assert min(request.at for request in later) - first.at >= 1.9


def test_a_permanent_refusal_fails_at_once(webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender) -> None:
    webhook("ops")
    http_sink.answers["/ops"] = [Answer(422, b"no such field")]
    made = tell("channel:ops")
    start_sender().drain()
    (row,) = settled(made)
    assert (row.state, row.reason, row.due_at) == (DeliveryState.FAILED, "422 no such field", None)
    assert attempts(row) == [(1, "failed", 422)]


def test_when_the_attempts_are_used_up_it_fails_and_says_so(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops", retry_schedule=AT_ONCE)
    http_sink.answers["/ops"] = [Answer(503, b"closed")]
    made = tell("channel:ops")
    sender = start_sender()
    wait_until(lambda: sender.drain() is not None and states(made) == ["failed"])
    (row,) = settled(made)
    assert row.reason == "given up after 3 attempts: 503 closed"
    assert attempts(row) == [(1, "retry", 503), (2, "retry", 503), (3, "failed", 503)]


def test_a_failed_delivery_can_be_retried_with_a_fresh_schedule(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops", retry_schedule=["0s", "0s"])
    http_sink.answers["/ops"] = [Answer(500), Answer(500), Answer(500), Answer(200)]
    made = tell("channel:ops")
    sender = start_sender()
    wait_until(lambda: sender.drain() is not None and states(made) == ["failed"])
    assert retry(Delivery.objects.all()) == 1
    wait_until(lambda: sender.drain() is not None and states(made) == ["delivered"])
    (row,) = settled(made)
    assert attempts(row) == [(1, "retry", 500), (2, "failed", 500), (3, "retry", 500), (4, "delivered", 200)]
    assert retry(Delivery.objects.all()) == 0


def test_a_cancelled_delivery_is_not_sent(webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender) -> None:
    webhook("ops")
    made = tell("channel:ops")
    assert cancel(Delivery.objects.all()) == 1
    assert start_sender().drain() == {}
    assert states(made) == ["cancelled"]
    assert http_sink.requests == []


def test_a_delivery_cancelled_under_way_stays_cancelled_and_the_attempt_is_recorded(webhook: MakeChannel) -> None:
    webhook("ops")
    made = tell("channel:ops")
    (job,) = claim(10, all_room).jobs
    cancel(Delivery.objects.all())
    record([Done(job, Receipt(200, "ok"))])
    assert states(made) == ["cancelled"]
    assert attempts(made[0]) == [(1, "delivered", 200)]


def test_a_dead_processs_lease_runs_out_and_the_delivery_is_taken_again(webhook: MakeChannel) -> None:
    webhook("ops")
    made = tell("channel:ops")
    (lost,) = claim(10, all_room).jobs  # this process dies here
    assert not claim(10, all_room).jobs
    make_due(made)
    (job,) = claim(10, all_room).jobs
    assert (job.leased.uid, job.leased.attempt) == (lost.leased.uid, 2)


def test_who_lost_the_lease_cannot_overwrite_its_successor(webhook: MakeChannel) -> None:
    webhook("ops")
    made = tell("channel:ops")
    (slow,) = claim(10, all_room).jobs
    make_due(made)
    (successor,) = claim(10, all_room).jobs
    record([Done(slow, error=SendError("too late", permanent=True))])
    assert states(made) == ["pending"]
    record([Done(successor, Receipt(200))])
    assert states(made) == ["delivered"]
    assert attempts(made[0]) == [(1, "failed", None), (2, "delivered", 200)]


@pytest.mark.parametrize("taken", [True, False])
def test_what_was_claimed_before_a_standstill_is_not_sent_after_it(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.setattr("project.pump.BEGIN_WITHIN", 0.3)
    webhook("ops")
    sender = start_sender()
    sender.drain()
    sender._world._loop.call_soon_threadsafe(time.sleep, 1)  # type: ignore[union-attr]
    made = tell("channel:ops")
    assert sender.drain() == {"claimed": 1}
    if taken:  # by another, when the lease is over
        make_due(made)
        (successor,) = claim(10, all_room).jobs
        record([Done(successor, Receipt(200))])
    (row,) = settled(made)
    time.sleep(1)
    assert attempts(row) == [(row.attempts, "delivered", 200)]
    assert row.attempts == (2 if taken else 1), "what was not begun is no attempt"
    assert len(http_sink.to("/ops")) == (0 if taken else 1)


def test_a_lease_that_ran_out_on_the_last_attempt_fails_the_delivery(webhook: MakeChannel) -> None:
    webhook("ops", retry_schedule=["0s", "0s"])
    made = tell("channel:ops")
    for _ in range(2):
        (job,) = claim(10, all_room).jobs
        make_due(made)
    claimed = claim(10, all_room)
    assert not claimed.jobs
    record(claimed.over)
    row = Delivery.objects.get()
    assert (row.state, row.attempts) == (DeliveryState.FAILED, 2)
    assert row.reason == "the process that made the last attempt died before it could record the outcome"
    assert job.leased.attempt == 2


def test_two_senders_never_send_the_same_delivery_twice(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    for name in ("a", "b", "c"):
        webhook(name)
    senders = [start_sender(), start_sender()]
    made = tell("channel:a", "channel:b", "channel:c", times=100)
    for _ in range(5):
        for sender in senders:
            sender.drain()
    settled(made)
    sent = Counter(request.headers["webhook-id"] for request in http_sink.requests)
    assert len(sent) == 300
    assert set(sent.values()) == {1}
    assert {len(http_sink.to(f"/{name}")) for name in "abc"} == {100}


def test_a_hanging_endpoint_does_not_delay_a_healthy_one(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("stuck", timeout=3)
    webhook("well")
    http_sink.answers["/stuck"] = [Answer(delay=4)]
    stuck = tell("channel:stuck", times=100)
    well = tell("channel:well", times=100)
    began = time.monotonic()
    start_sender().drain()
    settled(well, seconds=3)
    assert time.monotonic() - began < 2.5
    assert set(states(stuck)) == {"pending"}
    assert len(http_sink.to("/stuck")) <= 8  # it holds its own few slots, and nothing else


def test_no_lane_has_more_under_way_than_it_may_over_all_senders(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops", max_in_flight=3)
    http_sink.answers["/ops"] = [Answer(delay=0.1)]
    made = tell("channel:ops", times=30)
    senders = [start_sender(), start_sender()]
    for sender in senders:
        sender.drain()
    most = 0
    while "pending" in states(made):
        most = max(most, Delivery.objects.filter(leased=True, due_at__gt=timezone.now()).count())
        for sender in senders:
            sender.drain()
    assert most == 3


def test_a_rate_limit_holds_over_all_senders(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops", rate_limit="5/s")
    made = tell("channel:ops", times=12)
    senders = [start_sender(), start_sender()]
    for sender in senders:
        sender.drain()
    settled(made)  # they wake by themselves
    times = sorted(request.at for request in http_sink.to("/ops"))
    assert len(times) == 12
    assert times[-1] - times[0] >= 11 / 5 - 0.1
    assert all(later - earlier >= 0.9 for earlier, later in zip(times, times[5:], strict=False))


def test_a_claim_is_shared_fairly_between_lanes(webhook: MakeChannel) -> None:
    for name in ("flood", "trickle", "other"):
        webhook(name)
    tell("channel:flood", times=200)
    tell("channel:trickle", times=2)
    tell("channel:other", times=50)
    got = Counter(job.channel.name for job in claim(30, all_room).jobs)
    assert got == {"flood": 10, "trickle": 2, "other": 10}
    assert len(claim(1000, all_room).jobs) == 80  # 50 of a channel under way at once


def test_with_fewer_slots_than_lanes_the_lanes_take_turns(webhook: MakeChannel) -> None:
    for name in ("a", "b", "c", "d"):
        webhook(name)
    tell("channel:a", "channel:b", "channel:c", "channel:d", times=3)
    got = Counter(job.channel.name for _ in range(4) for job in claim(2, all_room).jobs)
    assert got == {"a": 2, "b": 2, "c": 2, "d": 2}


def test_a_failed_delivery_is_handed_to_the_fallback_once(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    second = webhook("second")
    first = webhook("first", fallback=second)
    second.fallback = first  # a circle must not go round for ever
    second.save(update_fields=["fallback"])
    http_sink.answers = {"/first": [Answer(400, b"no")], "/second": [Answer(400, b"no")]}
    (made,) = tell("channel:first", category="ops", priority="high")
    start_sender().drain()
    stand_ins = Delivery.objects.filter(instead_of=made.uid)
    wait_until(stand_ins.exists)
    (stand_in,) = settled(list(stand_ins))
    assert (stand_in.channel_id, stand_in.state, stand_in.origin) == (second.pk, DeliveryState.FAILED, made.origin)
    assert (stand_in.category, stand_in.priority) == ("ops", "high")
    assert Delivery.objects.count() == 2
    assert len(http_sink.to("/first")) == len(http_sink.to("/second")) == 1


def test_a_fallback_by_mail_says_in_words_what_the_webhook_said_in_data(
    webhook: MakeChannel, http_sink: HttpSink, mail_server: SmtpSink, start_sender: MakeSender
) -> None:
    mail = Channel.objects.create(name="mail", type="email", settings={"to": "ops@example.com"})
    webhook("ops", fallback=mail)
    http_sink.answers["/ops"] = [Answer(410)]
    tell("channel:ops")
    start_sender().drain()
    (arrived,) = mail_server.wait_for(1)
    assert arrived.recipients == ["ops@example.com"]
    assert '"n": 0' in arrived.text


def test_a_channel_in_trouble_is_held_back_and_recovers_with_one_success(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops", retry_schedule=["0s", *["0s"] * 20])
    http_sink.answers["/ops"] = [Answer(500)]
    made = tell("channel:ops", times=20)
    sender = start_sender()
    sender.drain()
    wait_until(lambda: Channel.objects.filter(hold_until__gt=timezone.now()).exists())
    channel.refresh_from_db()
    assert channel.hold_reason == "held back after failures in a row: 500 ok"
    calls = wait_until(lambda: Attempt.objects.count() == len(http_sink.requests) and len(http_sink.requests))
    sender.drain()
    time.sleep(0.3)
    assert len(http_sink.requests) == calls <= 16  # no attempts are spent while it is held back
    http_sink.answers["/ops"] = [Answer(200)]
    settled(made, seconds=12)
    channel.refresh_from_db()
    assert (channel.failures, channel.failing_since, channel.hold_until, channel.hold_reason) == (0, None, None, "")


def test_a_channel_switches_itself_off_after_three_days_and_what_waits_fails(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops")
    Channel.objects.update(failing_since=timezone.now() - timedelta(days=3, minutes=1))
    http_sink.answers["/ops"] = [Answer(500, b"still broken")]
    first = tell("channel:ops")
    sender = start_sender()
    sender.drain()
    wait_until(lambda: not Channel.objects.get().enabled)
    channel.refresh_from_db()
    assert channel.hold_reason.startswith("switched off: no success since ")
    make_due(first)
    sender.drain()
    (row,) = settled(first)
    assert (row.state, row.reason) == (DeliveryState.FAILED, "channel ops is disabled")
    assert len(http_sink.requests) == 1


def test_a_channel_with_wrong_settings_keeps_its_deliveries_for_when_they_are_right(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops", settings={"url": http_sink.url("/ops")})
    made = tell("channel:ops")
    channel.settings = {"url": "${NOT_SET}"}
    channel.save(update_fields=["settings"])
    sender = start_sender()
    sender.drain()
    wait_until(Attempt.objects.exists)
    attempt = Attempt.objects.get(number=1)
    assert (attempt.outcome, attempt.response) == (
        "retry",
        "channel ops is not set up right: ${NOT_SET} is not set: no variable NOT_SET in the environment",
    )
    channel.settings = {"url": http_sink.url("/ops")}
    channel.save(update_fields=["settings"])
    make_due(made)
    sender.drain()
    settled(made)


def test_mail_is_retried_until_the_server_is_up_again(mail_server: SmtpSink, start_sender: MakeSender) -> None:
    Channel.objects.create(name="mail", type="email", default=True, retry_schedule=["0s", *["0s"] * 9])
    Template.objects.create(name="hello", subject="Hello", text="World")
    mail_server.stop()
    made = tell("email:ada@example.com", template="hello")
    sender = start_sender()
    sender.drain()
    wait_until(Attempt.objects.exists)
    attempt = Attempt.objects.get(number=1)
    assert (attempt.outcome, "refused" in attempt.response) == ("retry", True)
    mail_server.start()
    wait_until(lambda: sender.drain() is not None and states(made) == ["delivered"])
    assert len(mail_server.mails) == 1


def test_outcomes_survive_the_loss_of_the_database_connection(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops")
    http_sink.answers["/ops"] = [Answer(delay=0.4)]
    made = tell("channel:ops", times=5)
    start_sender().drain()
    http_sink.wait_for(5)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    rows = settled(made)
    assert {row.state for row in rows} == {DeliveryState.DELIVERED}
    assert len(http_sink.requests) == 5


def test_an_outcome_that_cannot_be_stored_does_not_keep_the_others(webhook: MakeChannel) -> None:
    webhook("ops")
    made = tell("channel:ops", times=2)
    jobs = claim(10, all_room).jobs
    sender = Sender()
    sender._record_alone([Done(jobs[0], Receipt(10**12, "no such status")), Done(jobs[1], Receipt(200, "nul \0 byte"))])
    assert sorted(states(made)) == ["delivered", "pending"]
    assert Attempt.objects.get().response == "nul \ufffd byte"


def test_stopping_finishes_what_is_under_way_and_begins_nothing(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops", max_in_flight=2)
    http_sink.answers["/ops"] = [Answer(delay=0.5)]
    made = tell("channel:ops", times=4)
    sender = start_sender()
    sender.drain()
    http_sink.wait_for(2)
    sender.stop()
    assert sorted(states(made)) == ["delivered", "delivered", "pending", "pending"]
    assert sender.drain() == {}
    assert not Delivery.objects.filter(leased=True).exists()


def test_stopping_breaks_off_what_hangs_and_records_it_and_that_is_held_against_nobody(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops", retry_schedule=["0s"])
    http_sink.answers["/ops"] = [Answer(delay=3), Answer()]
    (made,) = tell("channel:ops")
    sender = start_sender()
    sender.drain()
    http_sink.wait_for(1)
    sender.stop(patience=0.3)
    assert made.tries.get().response == "broken off because the sender was stopped"
    made.refresh_from_db()
    assert (made.state, made.leased) == (DeliveryState.PENDING, False)
    start_sender().drain()
    (row,) = settled([made])
    assert (row.state, row.attempts, row.forgiven) == (DeliveryState.DELIVERED, 2, 1), "though one attempt is allowed"
