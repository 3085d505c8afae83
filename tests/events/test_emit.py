"""A step that emits an event: stored with the step, checked like any other, and never without end."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from events import ingest
from events.cloudevents import Incoming, read
from events.models import Event
from project import metrics
from project.api import BadRequest
from project.identifiers import new_uid
from project.models import Tally
from tests.events.conftest import ORDER, PAID, event_type
from workflows.actions import Call, StepError, actions
from workflows.definition import DefinitionError, parse

pytestmark = pytest.mark.django_db(transaction=True)


def call(depth: int = 0, item: int | None = None) -> Call:
    return Call(new_uid(), new_uid(), "w", "tell", 1, {}, item=item, depth=depth)


def emit(*settings: dict[str, Any], calls: list[Call] | None = None) -> list[Any]:
    cls = actions["event.emit"]
    given = [cls.model_validate(one) for one in settings]
    with transaction.atomic():
        return cls.run_batch(list(zip(given, calls or [call() for _ in settings], strict=True)))


def problems(given: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        parse(f"name: w\nsteps:\n  - {{id: tell, action: event.emit, with: {given}}}")
    return [problem.message for problem in caught.value.problems]


def test_a_batch_of_calls_becomes_events_one_level_deeper() -> None:
    event_type("order.paid", ORDER)
    calls = [call(depth=n) for n in range(3)]
    told = emit(
        *({"type": "order.paid", "data": {**PAID, "amount": n}, "subject": f"s{n}"} for n in range(3)), calls=calls
    )
    for n, (one, output) in enumerate(zip(calls, told, strict=True)):
        event = Event.objects.get(uid=output["uid"])
        assert output == {"uid": str(event.uid), "id": one.key, "duplicate": False}
        assert (event.source, event.event_id, event.subject, event.depth) == ("/carillon", one.key, f"s{n}", n + 1)
        assert event.data["amount"] == n
        assert event.due_at is not None
        assert event.envelope()["depth"] == n + 1


def test_what_comes_from_outside_has_no_depth() -> None:
    event_type("note")
    ingest.accept([Incoming("note")], source="/shop")
    assert Event.objects.get().depth == 0
    assert "depth" not in Event.objects.get().envelope()


def test_the_same_call_counts_once_and_each_item_by_itself() -> None:
    event_type("note")
    one = call()
    [first] = emit({"type": "note"}, calls=[one])
    [again] = emit({"type": "note"}, calls=[one])
    assert again == {**first, "duplicate": True}
    items = [Call(one.uid, one.run, "w", "tell", 1, {}, item=n) for n in range(2)]
    emit({"type": "note"}, {"type": "note"}, calls=items)
    assert Event.objects.count() == 3


def test_an_id_of_its_own_makes_events_of_many_runs_one() -> None:
    event_type("note")
    told = emit(*({"type": "note", "id": "daily", "source": "/carillon/daily"} for _ in range(3)))
    assert [one["duplicate"] for one in told] == [False, True, True]
    assert Event.objects.get().source == "/carillon/daily"


def test_it_is_undone_and_not_counted_with_the_steps_transaction() -> None:
    event_type("note")
    metrics.flush()
    Tally.objects.all().delete()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        emit({"type": "note"})
        raise ZeroDivisionError
    metrics.flush()
    assert not Event.objects.exists()
    assert not Tally.objects.filter(name="carillon_events_accepted_total").exists()
    emit({"type": "note"})
    metrics.flush()
    assert Tally.objects.get(name="carillon_events_accepted_total", labels={"source": "/carillon"}).value == 1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"type": "order.paid", "data": {"order_id": 1}}, 'data.order_id: 1 is not of type "string"'),
        ({"type": "order.paid", "data": {"order_id": "1"}}, 'data: "amount" is a required property'),
        ({"type": "no.such"}, "type: there is no event type 'no.such'"),
        ({"type": "old"}, "type: the event type 'old' is retired"),
        ({"type": "note", "subject": "x" * 501}, "subject: has 501 bytes; at most 500"),
        ({"type": "note", "id": "a\0"}, "id: contains a NUL character"),
        ({"type": "note", "data": "x" * 300_000}, "The event has 300,"),
    ],
)
def test_what_does_not_fit_fails_the_step_for_good(given: dict[str, Any], reason: str) -> None:
    event_type("order.paid", ORDER)
    event_type("note")
    event_type("old", retired=True)
    with pytest.raises(StepError) as caught:
        emit(given)
    assert reason in str(caught.value)
    assert caught.value.permanent
    assert not Event.objects.exists()


def test_the_loop_guard_ends_a_chain_at_twenty() -> None:
    event_type("note")
    emit({"type": "note"}, calls=[call(depth=19)])
    assert Event.objects.get().depth == 20
    with pytest.raises(StepError, match="loop guard: 20 events led to this one") as caught:
        emit({"type": "note"}, calls=[call(depth=20)])
    assert caught.value.permanent


def test_a_workflow_that_emits_what_there_is_not_is_refused() -> None:
    event_type("order.paid", ORDER)
    event_type("old", retired=True)
    assert problems("{type: order.pay}") == [
        'unknown event type "order.pay", did you mean "order.paid"? known: old, order.paid'
    ]
    assert problems("{type: old}") == ['the event type "old" is retired']
    assert problems("{type: order.paid, source: /shop}") == ['must be /carillon or begin with /carillon/, not "/shop"']
    assert problems("{type: order.paid, data: {order_id: 7, amount: 1}}") == ['7 is not of type "string"']
    assert any(told.startswith('unknown field "typ", did you mean "type"?') for told in problems("{typ: order.paid}"))
    parse(
        'name: w\nsteps:\n  - {id: a, action: event.emit, with: {type: "${{ event.type }}", data: "${{ event.data }}"}}'
    )
    parse('name: w\nsteps:\n  - {id: a, action: event.emit, with: {type: order.paid, data: "${{ event.data }}"}}')


def test_a_producer_cannot_say_how_deep_it_is() -> None:

    with pytest.raises(BadRequest, match="Carillon's own"):
        read("application/cloudevents+json", {}, b'{"specversion":"1.0","id":"1","source":"/s","type":"t","depth":3}')
