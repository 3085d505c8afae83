"""What a new schema would break is known before it is saved: stored events, and fields that somebody reads."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from events.compatibility import PINNED, REFUSED, breaks, toll
from events.listeners import Listeners
from events.models import Event, EventType, Schedule, Subscription
from notifications.models import Channel, Template
from tests.events.conftest import event_type
from workflows.publishing import publish

pytestmark = pytest.mark.django_db

ORDER = {
    "type": "object",
    "properties": {
        "order_id": {"type": "string"},
        "amount": {"type": "number"},
        "customer": {"type": "object", "properties": {"name": {"type": "string"}, "vip": {"type": "boolean"}}},
        "lines": {"type": "array"},
    },
}
PAID = """\
name: order-paid
concurrency: {key: "${{ event.data.customer.name }}"}
steps:
  - id: keep
    action: record.put
    if: event.data.customer.vip
    with: {collection: orders, key: "${{ event.data.order_id }}", value: "${{ event.data }}"}
    undo: {action: record.delete, with: {collection: orders, key: "x-${{ event.data.order_id }}"}}
  - id: each
    action: transform
    for_each: ${{ event.data.lines }}
    with: {values: {sku: "${{ item.sku }}"}}
  - id: tell
    action: notify
    with: {to: ["email:ada@example.com"], template: paid}
"""
WAITING = """\
name: refund
steps:
  - id: paid
    action: event.wait
    with: {type: order.paid, match: "incoming.data.order_id == event.data.refund_of", timeout: 1h}
  - id: keep
    action: transform
    with: {values: {amount: "${{ steps.paid.output.event.data.amount }}", mine: "${{ event.data.amount }}"}}
"""


@pytest.fixture
def kind() -> EventType:
    """The type order.paid with everybody who reads its fields."""
    made = event_type("order.paid", ORDER)
    event_type("refund.requested")
    Channel.objects.create(name="mail", type="email", default=True)
    Template.objects.create(
        name="paid",
        subject="{{ event.data.order_id }}",
        html="{% for line in event.data.lines %}{{ line.sku }}{% endfor %}{{ event.data.lines.size }}",
        languages={"de": {"text": "{{ event.data.customer.name }}"}},
    )
    paid, _ = publish(PAID)
    publish(WAITING)
    Subscription.objects.create(
        name="large", types=["order.*"], filter="event.data.amount > 100.0", workflow=paid.workflow
    )
    return made


def broken(schema: Any, before: Any = ORDER) -> list[tuple[str, str, str, str]]:
    return [(it.name, it.what, it.reading.who, it.reading.where) for it in breaks("order.paid", before, schema)]


def without(*names: str, **changes: Any) -> dict[str, Any]:
    kept = {name: value for name, value in {**ORDER["properties"], **changes}.items() if name not in names}  # type: ignore[dict-item]
    return {"type": "object", "properties": kept}


def test_everybody_who_reads_a_field_is_found(kind: EventType) -> None:
    gone = "is no longer declared"
    assert broken({"type": "object"}) == [
        ("event.data.amount", gone, "subscription large", "filter"),
        ("event.data.amount", gone, "workflow refund", "step keep"),
        ("event.data.customer.name", gone, "workflow order-paid", "concurrency"),
        ("event.data.customer.name", gone, "workflow order-paid", "template paid, for step tell"),
        ("event.data.customer.vip", gone, "workflow order-paid", "step keep"),
        ("event.data.lines", gone, "workflow order-paid", "step each"),
        ("event.data.lines", gone, "workflow order-paid", "template paid, for step tell"),
        ("event.data.order_id", gone, "workflow order-paid", "step keep"),
        ("event.data.order_id", gone, "workflow order-paid", "template paid, for step tell"),
        ("event.data.order_id", gone, "workflow refund", "step paid"),
    ]


def test_what_stays_as_it_was_breaks_nobody(kind: EventType) -> None:
    assert broken(ORDER) == []
    assert broken({**ORDER, "required": ["order_id"]}) == []
    assert broken(without(extra={"type": "string"}, amount={"type": "integer"})) == []
    assert broken({"type": "object"}, before={}) == []  # nothing was declared before


def test_a_field_that_is_forbidden_or_of_another_type_is_broken(kind: EventType) -> None:
    assert {it[:2] for it in broken({**without("amount"), "additionalProperties": False})} == {
        ("event.data.amount", "is forbidden")
    }
    assert {it[:2] for it in broken({"additionalProperties": False}, before={})} >= {
        ("event.data.customer.name", "is forbidden")
    }
    assert {it[:2] for it in broken(without(amount={"type": ["string", "null"]}))} == {
        ("event.data.amount", "was number and becomes null or string")
    }


def test_only_the_newest_version_of_a_workflow_counts(kind: EventType) -> None:
    publish(PAID.replace("event.data.customer.vip", "event.data.amount > 1.0"))
    publish(WAITING.replace("order.paid", "refund.requested"))
    assert {it[2] for it in broken(without("order_id"))} == {"workflow order-paid"}
    vip = without(customer={"type": "object", "properties": {"name": {"type": "string"}}})
    assert broken(vip) == []


def store(name: str, data: Any, **values: Any) -> Event:
    now = timezone.now()
    return Event.objects.create(source="/shop", event_id=name, type="order.paid", time=now, data=data, **values)


def test_stored_events_are_held_against_the_schema(kind: EventType) -> None:
    for number in range(8):
        store(str(number), {"order_id": f"A-{number}", "amount": number})
    store("pinned", {}, dataschema="1")
    store("none", None)
    found = toll(kind, {**ORDER, "required": ["amount"], "properties": {"amount": {"maximum": 4}}})
    assert found.survey.complete
    assert (found.survey.seen, found.survey.counts[REFUSED], found.survey.counts[PINNED]) == (10, 4, 1)
    assert [event.event_id for event, _ in found.refused] == ["none", "7", "6", "5"]
    assert found.refused[1][1][0].path == "data.amount"
    assert found


def test_a_schema_that_breaks_nothing_costs_nothing(kind: EventType) -> None:
    store("1", {"order_id": "A-1", "amount": 1})
    assert not toll(kind, {**ORDER, "required": ["amount"]})


def test_who_listens_and_who_makes_them(kind: EventType) -> None:
    Schedule.objects.create(name="nightly", cron="0 2 * * *", type="order.paid")
    Schedule.objects.create(name="other", cron="0 2 * * *", type="refund.requested")
    publish("name: makes\nsteps: [{id: emit, action: event.emit, with: {type: order.paid, data: {}}}]")
    exact, _ = publish("name: exact\nsteps: [{id: no, action: fail, with: {message: no}}]")
    Subscription.objects.create(name="exact", types=["order.paid"], workflow=exact.workflow, enabled=False)
    Subscription.objects.create(name="deaf", types=["refund.*"], workflow=exact.workflow)
    found = Listeners("order.paid")
    assert [(it.subscription.name, it.by) for it in found.hearings] == [("exact", "order.paid"), ("large", "order.*")]
    assert [(it.workflow.name, it.step) for it in found.waits] == [("refund", "paid")]
    assert [(it.workflow.name, it.step) for it in found.emits] == [("makes", "emit")]
    assert [it.name for it in found.schedules] == ["nightly"]
    assert found.waiting == 0
    nobody = Listeners("refund.requested.late")
    assert [it.subscription.name for it in nobody.hearings] == ["deaf"]
