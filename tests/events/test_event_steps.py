"""Emitting and waiting as steps of workflows that the engine runs."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from events import ingest, routing
from events.cloudevents import Incoming
from events.models import Event, EventType, EventWait, Schedule, Subscription
from events.scheduling import fire_due
from events.trace import trace
from tests.workflows.runs import drain, outcome, time_passes, workflow
from workflows import engine
from workflows.models import Record, Run, RunState

pytestmark = pytest.mark.django_db(transaction=True)

WAIT = """
  - {id: payment, action: event.wait, with: {type: paid, match: incoming.data.order == event.data.order, timeout: 1h}}
  - {id: thank, if: 'steps.payment.outcome == "received"', action: record.put,
     with: {collection: thanked, key: "${{ event.data.order }}",
            value: "${{ steps.payment.output.event.data.amount }}"}}
  - {id: remind, if: 'steps.payment.outcome == "timed_out"', action: record.put,
     with: {collection: reminded, key: "${{ event.data.order }}", value: true}}
"""


@pytest.fixture(autouse=True)
def _types() -> None:
    for name in ("placed", "paid", "note"):
        EventType.objects.create(name=name)


def subscribe(name: str, steps: str, *types: str, **values: Any) -> None:
    version = workflow(steps, name)
    Subscription.objects.create(name=name, types=[*types], workflow=version.workflow, **values)


def send(type_: str, order: str, amount: int = 5) -> None:
    ingest.accept([Incoming(type_, data={"order": order, "amount": amount})], source="/shop")


def go_on() -> None:
    """All that is due, as the workers do it."""
    while routing.route():
        pass
    drain()
    if Event.objects.due().exists():
        go_on()


def kept(collection: str) -> set[str]:
    return set(Record.objects.filter(collection=collection).values_list("key", flat=True))


def test_a_run_goes_on_when_its_event_comes_or_its_time_is_over() -> None:
    subscribe("thanks", WAIT, "placed")
    for order in "AB":
        send("placed", order)
    go_on()
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.WAITING}
    assert EventWait.objects.count() == 2
    send("paid", "A", 7)
    go_on()
    assert (kept("thanked"), kept("reminded")) == ({"A"}, set())
    assert Record.objects.get(collection="thanked").value == 7
    time_passes(3590)
    assert kept("reminded") == set()
    time_passes(20)
    assert (kept("thanked"), kept("reminded")) == ({"A"}, {"B"})
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.SUCCEEDED}
    assert not EventWait.objects.exists()


def test_the_event_may_come_in_the_same_moment_as_the_runs_own() -> None:
    """Both are routed in one batch: the payment before the run that waits for it exists."""
    subscribe("thanks", WAIT, "placed")
    send("placed", "A")
    send("paid", "A")
    send("placed", "B")
    go_on()
    assert kept("thanked") == {"A"}
    assert EventWait.objects.count() == 1


def test_a_run_is_not_ended_by_the_event_that_started_it() -> None:
    subscribe("again", "  - {id: more, action: event.wait, with: {type: paid, timeout: 1h}}", "paid")
    send("paid", "A")
    go_on()
    assert outcome(Run.objects.get()) == {"more": "waiting"}
    send("paid", "A")
    go_on()
    assert sorted(Run.objects.values_list("state", flat=True)) == ["succeeded", "waiting"]


def test_a_cancelled_run_waits_no_longer() -> None:
    subscribe("thanks", WAIT, "placed")
    send("placed", "A")
    go_on()
    engine.cancel(Run.objects.all(), reason="no longer wanted")
    assert not EventWait.objects.exists()
    send("paid", "A")
    go_on()
    assert kept("thanked") == set()


def test_each_item_of_a_list_waits_for_its_own() -> None:
    steps = """
  - {id: parts, for_each: "${{ event.data.order.split(',') }}", action: event.wait,
     with: {type: paid, match: incoming.data.order == item, timeout: 1h}}
"""
    subscribe("parts", steps, "placed")
    send("placed", "A,B")
    go_on()
    send("paid", "B")
    go_on()
    run = Run.objects.get()
    assert outcome(run) == {"parts[0]": "waiting", "parts[1]": "succeeded"}
    send("paid", "A")
    go_on()
    run.refresh_from_db()
    assert run.state == RunState.SUCCEEDED


def test_a_match_that_cannot_be_true_fails_its_run_and_says_why() -> None:
    steps = (
        "  - {id: p, action: event.wait, with: {type: paid, match: incoming.data.x == event.data.gone, timeout: 1h}}"
    )
    subscribe("w", steps, "placed")
    send("placed", "A")
    go_on()
    assert Run.objects.get().error == "p: match can never be true: no such key: gone"


def test_what_a_step_emits_is_heard_and_told_by_its_trace() -> None:
    emit = '  - {id: tell, action: event.emit, with: {type: note, subject: s, data: {of: "${{ event.data.order }}"}}}'
    subscribe("emits", emit, "placed")
    subscribe(
        "hears",
        "  - {id: k, action: record.put, with: {collection: heard, key: '${{ event.data.of }}', value: 1}}",
        "note",
    )
    send("placed", "A")
    go_on()
    assert kept("heard") == {"A"}
    emitting, hearing = Run.objects.order_by("uid")
    assert (emitting.depth, hearing.depth) == (0, 1)
    event = Event.objects.get(type="note")
    assert (event.depth, event.event_id) == (1, f"{emitting.uid}/tell")
    [run] = trace(Event.objects.get(type="placed"))["runs"]
    assert run["steps"][0]["output"] == {"uid": str(event.uid), "id": event.event_id, "duplicate": False}


def test_an_emitted_event_is_undone_with_its_batch_and_done_once() -> None:
    """One run of the batch fails, so all of it is undone and done again one by one."""
    steps = """
  - {id: tell, action: event.emit, with: {type: note, data: "${{ event.data.order }}"}}
  - {id: check, if: 'event.data.order == "bad"', action: fail, with: {message: no}}
"""
    subscribe("emits", steps, "placed")
    for order in ("A", "bad", "B"):
        send("placed", order)
    go_on()
    assert sorted(event.data for event in Event.objects.filter(type="note")) == ["A", "B", "bad"]
    assert sorted(Run.objects.values_list("state", flat=True)) == ["failed", "succeeded", "succeeded"]


def test_a_workflow_that_hears_what_it_emits_ends_at_a_depth_of_twenty() -> None:
    subscribe("echo", "  - {id: again, action: event.emit, with: {type: note}}", "note")
    send("note", "A")
    go_on()
    assert sorted(Event.objects.values_list("depth", flat=True)) == list(range(21))
    last = Run.objects.get(state=RunState.FAILED)
    assert last.depth == 20
    assert last.error.startswith("again: the loop guard: ")


def test_a_schedule_starts_a_run_like_any_event() -> None:
    subscribe(
        "hears",
        "  - {id: k, action: record.put, with: {collection: heard, key: '${{ event.schedule }}', value: 1}}",
        "note",
    )
    schedule = Schedule(name="hourly", cron="0 * * * *", type="note")
    schedule.full_clean()
    schedule.due_at = timezone.now().replace(minute=0, second=0, microsecond=0)
    schedule.save()
    fire_due()
    go_on()
    assert kept("heard") == {"hourly"}
