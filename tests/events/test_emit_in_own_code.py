"""Own code emits events in its own transaction: stored and announced if that commits, and not at all otherwise."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from events.emit import emit
from events.models import Event, EventType
from examples.ops.models import Order
from project.api import Problem
from project.doorbell import doorbell
from tests.events.conftest import ORDER, PAID, event_type
from tests.live import Live, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def types() -> None:
    event_type("order.paid", ORDER)
    event_type("note")
    event_type("old", retired=True)


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that the process was told to ring for, in their order."""
    rung: list[str] = []
    monkeypatch.setattr(doorbell, "ring", lambda stage, by="": rung.append(stage))
    return rung


def pay(order_id: str = "A-1") -> None:
    Order.objects.create(order_id=order_id, amount=120)
    emit("order.paid", {**PAID, "order_id": order_id}, subject=order_id)


@pytest.mark.usefixtures("types")
def test_the_event_comes_with_the_commit_and_the_bell_after_it(bells: list[str]) -> None:
    with transaction.atomic():
        pay()
        assert not bells
    assert bells == ["events.route"]
    event = Event.objects.get()
    assert (event.source, event.type, event.subject, event.data) == ("/carillon", "order.paid", "A-1", PAID)
    assert (event.depth, event.routed_at) == (0, None)
    assert event.due_at is not None


@pytest.mark.usefixtures("types")
def test_a_rollback_leaves_nothing(bells: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        pay()
        raise ZeroDivisionError
    assert not Order.objects.exists()
    assert not Event.objects.exists()
    with transaction.atomic():
        pay("A-2")
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # a savepoint
            pay("A-3")
            raise ZeroDivisionError
    assert [event.subject for event in Event.objects.all()] == ["A-2"]
    assert bells == ["events.route"]


@pytest.mark.usefixtures("types")
def test_outside_a_transaction_it_is_stored_at_once(bells: list[str]) -> None:
    stored = emit("note")
    assert (stored.source, stored.type, stored.duplicate) == ("/carillon", "note", False)
    assert Event.objects.get().uid == stored.uid
    assert bells == ["events.route"]


@pytest.mark.usefixtures("types")
def test_an_id_of_ones_own_counts_once_for_each_source() -> None:
    first, again, other = (emit("note", id="n-1", source=source) for source in ("/shop/eu", "/shop/eu", "/carillon"))
    assert (first.duplicate, again.duplicate, other.duplicate) == (False, True, False)
    assert again.uid == first.uid


@pytest.mark.usefixtures("types")
def test_what_django_has_in_its_fields_becomes_text() -> None:
    moment, key = datetime(2026, 1, 31, 12, tzinfo=UTC), uuid.uuid4()
    emit("note", {"amount": Decimal("1.50"), "day": date(2026, 1, 31), "at": moment, "key": key, "n": 1.5})
    assert Event.objects.get().data == {
        "amount": "1.50",
        "day": "2026-01-31",
        "at": "2026-01-31T12:00:00Z",
        "key": str(key),
        "n": 1.5,
    }


@pytest.mark.usefixtures("types")
@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"type": "order.pay"}, "type", "there is no event type 'order.pay'"),
        ({"type": "old"}, "type", "retired"),
        ({"type": "order.paid", "data": {"order_id": "A-1"}}, "data", '"amount" is a required property'),
        ({"type": "note", "id": "x" * 201}, "id", "at most 200"),
        ({"type": "note", "source": "shop"}, "source", "begins with a slash"),
        ({"type": "note", "data": "\0"}, "data", "NUL"),
        ({"type": "note", "data": "x" * 300_000}, None, "The event has 300,"),
        ({"type": "note", "data": 2**64}, None, "more than 64 bits"),
        ({"type": "note", "depth": 21}, None, "loop guard"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_told_and_the_transaction_goes_on(given: dict[str, Any], path: str, message: str) -> None:
    with transaction.atomic():
        Order.objects.create(order_id="A-1", amount=1)
        with pytest.raises(Problem) as caught:
            emit(**given)
        Order.objects.create(order_id="A-2", amount=1)
    assert message in caught.value.text
    assert [fault.path for fault in caught.value.errors] == ([path] if path else [])
    assert Order.objects.count() == 2
    assert not Event.objects.exists()


@pytest.mark.usefixtures("types")
@pytest.mark.parametrize(
    ("data", "error"), [(object(), TypeError), ({"n": float("nan")}, ValueError)], ids=("no JSON", "not a number")
)
def test_what_is_no_json_is_a_mistake_of_the_code(data: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        emit("note", data)
    assert not Event.objects.exists()


@pytest.mark.flow
@pytest.mark.django_db(transaction=True)
def test_the_workers_hear_of_it_by_the_bell_alone(live: Live) -> None:
    EventType.objects.create(name="order.paid")
    live.start("worker")  # and no clock, which would find the event anyway
    code = """
from django.db import transaction
from events.emit import emit
from examples.ops.models import Order
import time
with transaction.atomic():
    Order.objects.create(order_id="A-1", amount=1)
    emit("order.paid", {"order_id": "A-1"})
time.sleep(2)  # the bell is rung by a thread
"""
    live.manage("shell", "-c", code)
    wait_until(lambda: Event.objects.filter(routed_at__isnull=False, subject="").exists(), what="it is routed")
    assert Order.objects.get().order_id == "A-1"
