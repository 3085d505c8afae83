"""What really happens to events balances, whatever becomes of them, at every moment on the way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from events import ingest, routing
from events.cloudevents import Incoming
from events.models import Event, EventType, Subscription
from notifications.delivery import retry
from notifications.models import Channel, Delivery, Template
from notifications.sender import Sender
from project.ledger import audit_everything, sums
from tests.live import wait_until
from tests.sinks import Answer, HttpSink
from workflows import engine
from workflows.models import Run
from workflows.publishing import publish

pytestmark = pytest.mark.django_db(transaction=True)

TELL = """
name: tell
steps:
  - {id: tell, action: notify, with: {to: ["channel:well", "channel:broken", "channel:off"], template: t}}
  - {id: check, if: "event.data.n % 3 == 0", action: fail, with: {message: a third of them}}
"""

WAIT = """
name: wait
concurrency: {key: "${{ event.data.n % 2 }}"}
steps:
  - {id: later, action: delay, with: {for: 1h}}
  - {id: ask, needs: [], action: approval}
"""


def totals() -> dict[str, int]:
    """What each sum comes to; AssertionError where the sides differ."""
    found = {name: audit_everything(each) for name, each in sums().items()}
    wrong = {name: balance.faults for name, balance in found.items() if balance.difference}
    assert not wrong
    assert all(balance.left == balance.right for balance in found.values()), found
    return {name: balance.left for name, balance in found.items()}


def test_it_balances_on_the_way_of_an_event_and_at_its_end(http_sink: HttpSink) -> None:
    http_sink.answers["/broken"] = [Answer(422)]
    EventType.objects.create(name="note")
    Template.objects.create(name="t", text="x")
    for name, url, settings in (
        ("well", http_sink.url("/well"), {}),
        ("broken", http_sink.url("/broken"), {}),
        ("off", http_sink.url("/off"), {"enabled": False}),
    ):
        Channel.objects.create(name=name, type="webhook", settings={"url": url}, **settings)
    for name, source in (("tell", TELL), ("wait", WAIT)):
        version, _ = publish(source)
        Subscription.objects.create(name=name, types=["note"], workflow=version.workflow, filter="event.data.n < 20")
    events = [Incoming(type="note", id=str(n), data={"n": n}, time=timezone.now()) for n in range(30)]
    ingest.accept(events, source="/shop", batch=True)
    assert totals() == {**nothing(), "accepted": 30}
    while routing.route():
        totals()
    while engine.advance():
        totals()
    sender = Sender()
    sender.drain()
    pending = Delivery.objects.filter(state="pending")
    wait_until(lambda: totals() and not pending.exists(), what="the end of every delivery")
    sender.stop()
    found = totals()
    states = dict.fromkeys(("delivered", "failed", "skipped"), 20)
    assert {state: Delivery.objects.filter(state=state).count() for state in states} == states
    assert Run.objects.filter(queued=True).count() == 18
    # Two runs have a place and do two steps each; the others wait for one.
    assert found == {
        **nothing(),
        "accepted": 30,
        "matched": 40,
        "runs": 40,
        "steps": 44,
        "told": 60,
        "deliveries": 60,
        "delivered": 20,
    }


def nothing() -> dict[str, Any]:
    return dict.fromkeys(sums(), 0)


def test_what_the_how_to_says_mends(http_sink: HttpSink) -> None:
    """docs/how-to/when-the-ledger-does-not-balance.md"""

    def wrong() -> set[str]:
        return {name for name, each in sums().items() if audit_everything(each).difference}

    def go_on() -> None:
        routing.route()
        engine.advance()

    EventType.objects.create(name="note")
    Template.objects.create(name="t", text="x")
    for name in ("well", "broken", "off"):
        Channel.objects.create(name=name, type="webhook", settings={"url": http_sink.url(f"/{name}")})
    for name, source in (("tell", TELL), ("wait", WAIT)):
        version, _ = publish(source)
        Subscription.objects.create(name=name, types=["note"], workflow=version.workflow)
    ingest.accept([Incoming(type="note", id="1", data={"n": 1}, time=timezone.now())], source="/shop", batch=False)

    Event.objects.update(due_at=None)
    assert wrong() == {"accepted"}
    Event.objects.update(due_at=Now())
    go_on()
    assert wrong() == set()

    waiting = Run.objects.filter(trigger="wait")
    waiting.update(due_at=None)
    assert wrong() == {"steps"}  # the run still has its approval, but nobody knows of its delay
    waiting.update(due_at=Now())
    go_on()
    assert wrong() == set()
    run = waiting.get()
    assert run.due_at
    assert run.due_at > timezone.now() + timedelta(minutes=50)

    ended = Run.objects.filter(trigger="tell")
    ended.update(due_at=Now())
    assert wrong() == {"runs"}
    ended.update(due_at=None)
    assert wrong() == set()

    Delivery.objects.update(due_at=None)
    assert wrong() == {"deliveries"}
    retry(Delivery.objects.all())  # as the admin does
    assert wrong() == set()
