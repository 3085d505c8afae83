"""Every subscription is asked, its verdict is kept with the reason, and what is bad hurts only itself."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from events import ingest, routing
from events.cloudevents import Incoming
from events.models import Event, EventType, Source, Subscription
from project import metrics
from project.models import Tally
from workflows import engine
from workflows.models import Record, Run, Workflow
from workflows.publishing import publish

pytestmark = pytest.mark.django_db(transaction=True)


def workflow(name: str = "keep", steps: str = "") -> Workflow:
    keep = "- {id: keep, action: record.put, with: {collection: kept, key: '${{ event.id }}', value: 1}}"
    version, _ = publish(f"name: {name}\nsteps:\n  {steps or keep}\n")
    return version.workflow


def subscribe(name: str, *types: str, to: Workflow, sources: list[str] | None = None, **values: Any) -> Subscription:
    made = Subscription.objects.create(name=name, types=[*types], workflow=to, **values)
    made.sources.set(Source.objects.filter(name__in=sources or []))
    return made


def accept(*events: Incoming, source: str = "/shop") -> None:
    for event in events:
        EventType.objects.get_or_create(name=event.type)
    ingest.accept(events, source=source, batch=True)


def note(name: str, data: Any = None, **values: Any) -> Incoming:
    return Incoming(**{"type": "note", "id": name, "data": data, **values})


def verdicts(name: str) -> dict[str, tuple[str, str]]:
    event = Event.objects.get(event_id=name)
    return {told["name"]: (told["verdict"], told.get("reason", "")) for told in event.verdicts}


def drain() -> list[dict[str, int]]:
    told = []
    while done := routing.route():
        told.append(done)
    while engine.advance():
        pass
    return told


def test_every_verdict_is_kept_with_its_reason() -> None:
    keep, off = workflow(), workflow("off")
    Workflow.objects.filter(name="off").update(enabled=False)
    Source.objects.create(name="shop")
    Source.objects.create(name="warehouse")
    subscribe("a-all", "note", to=keep)
    subscribe("b-large", "note", to=keep, filter="event.data.amount > 100.0")
    subscribe("c-small", "note", to=keep, filter='event.data.amount < 100.0 && event.data.kind == "x"')
    subscribe("d-missing", "note", to=keep, filter="event.data.customer.vip")
    subscribe("e-shop", "note", to=keep, sources=["shop"])
    subscribe("f-other", "note", to=keep, sources=["warehouse"])
    subscribe("g-disabled", "note", to=keep, enabled=False)
    subscribe("h-off", "note", to=off)
    subscribe("i-deaf", "order.*", to=keep)
    accept(note("1", {"amount": 50.5, "kind": "y"}))
    assert drain() == [{"events": 1, "runs": 2}]
    told = verdicts("1")
    assert list(told) == [*["a-all", "b-large", "c-small", "d-missing", "e-shop", "f-other", "g-disabled", "h-off"]]
    assert told["a-all"] == told["e-shop"] == ("matched", "")
    assert told["b-large"][0] == "filtered"
    assert "event.data.amount > 100.0" in told["b-large"][1]
    assert told["c-small"][0] == "filtered"
    assert 'event.data.kind == "x"' in told["c-small"][1]
    assert "amount" not in told["c-small"][1], "only the clause at fault is told"
    assert told["d-missing"][0] == "error"
    assert "customer" in told["d-missing"][1]
    assert told["f-other"] == ("filtered", "/shop is not among its sources: /warehouse")
    assert told["g-disabled"] == ("disabled", "the subscription is disabled")
    assert told["h-off"] == ("disabled", "its workflow is disabled")
    assert set(Run.objects.values_list("trigger", flat=True)) == {"a-all", "e-shop"}


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("order.paid", {"order.paid"}),
        ("order.*", {"order.paid", "order.paid.late"}),
        ("order*", {"order.paid", "order.paid.late", "orders"}),
        ("*", {"order.paid", "order.paid.late", "orders", "note"}),
        ("ORDER.*", set()),
    ],
)
def test_a_trailing_star_stands_for_the_rest(pattern: str, heard: set[str]) -> None:
    subscribe("s", pattern, to=workflow())
    accept(*(note(name, type=name) for name in ("order.paid", "order.paid.late", "orders", "note")))
    drain()
    assert set(Record.objects.values_list("key", flat=True)) == heard


def test_a_source_is_heard_with_what_is_below_it() -> None:
    Source.objects.create(name="shop")
    subscribe("s", "note", to=workflow(), sources=["shop"])
    accept(note("1"), note("2", source="/shop/eu"))
    accept(note("3"), source="/shopping")
    drain()
    assert set(Record.objects.values_list("key", flat=True)) == {"1", "2"}


def test_a_filter_that_does_not_compile_hurts_only_itself() -> None:
    keep = workflow()
    subscribe("broken", "note", to=keep, filter="event.data. >")
    subscribe("costly", "note", to=keep, filter="[1].map(a, [1].map(b, [1].map(c, a + b + c))).size() > 0")
    subscribe("whole", "note", to=keep)
    accept(note("1"))
    drain()
    told = verdicts("1")
    assert told["whole"] == ("matched", "")
    for name in ("broken", "costly"):
        assert told[name][0] == "error"
        assert "does not compile" in told[name][1]
    assert Record.objects.count() == 1


def test_an_event_that_nobody_hears_is_routed_all_the_same() -> None:
    accept(note("1"))
    assert drain() == [{"events": 1, "runs": 0}]
    event = Event.objects.get()
    assert (event.verdicts, event.due_at) == ([], None)
    assert event.routed_at is not None


def test_a_change_counts_from_the_next_batch() -> None:
    subscription = subscribe("s", "note", to=workflow(), filter="event.data > 5")
    accept(note("1", 3))
    drain()
    subscription.filter = "event.data > 2"
    subscription.save()
    accept(note("2", 3))
    drain()
    assert (verdicts("1")["s"][0], verdicts("2")["s"][0]) == ("filtered", "matched")


def test_a_poison_event_is_postponed_alone() -> None:
    """Some other release's row, say, that no code of this one can make an event of."""
    subscribe("s", "note", to=workflow())
    accept(*(note(str(n)) for n in range(5)))
    with connection.cursor() as cursor:
        cursor.execute("""UPDATE events_event SET extensions = '"poison"' WHERE event_id = '3'""")
    metrics.flush()
    Tally.objects.all().delete()
    assert drain() == [{"events": 4, "runs": 4, "postponed": 1}]
    poison = Event.objects.get(event_id="3")
    assert poison.routed_at is None
    assert poison.attempts == 1
    assert "TypeError" in poison.error
    assert poison.due_at is not None
    assert 5 < (poison.due_at - timezone.now()).total_seconds() <= 10
    assert set(Record.objects.values_list("key", flat=True)) == {"0", "1", "2", "4"}
    metrics.flush()
    assert Tally.objects.get(name="carillon_events_routed_total").value == 4
    assert Tally.objects.get(name="carillon_verdicts_total", labels={"verdict": "matched"}).value == 4

    Event.objects.filter(pk=poison.pk).update(extensions={}, due_at=timezone.now())
    assert drain() == [{"events": 1, "runs": 1}]
    assert Event.objects.filter(pk=poison.pk, error="", due_at=None).exists()


def test_a_step_that_fails_is_its_runs_fault_and_not_the_events() -> None:
    subscribe("s", "note", to=workflow(steps="- {id: stop, action: fail, with: {message: no}}"))
    subscribe("t", "note", to=workflow("other"))
    accept(note("1"), note("2"))
    drain()
    assert not Event.objects.filter(routed_at=None).exists()
    assert sorted(Run.objects.values_list("trigger", "state")) == [
        ("s", "failed"),
        ("s", "failed"),
        ("t", "succeeded"),
        ("t", "succeeded"),
    ]
    assert Record.objects.count() == 2


@pytest.mark.parametrize("with_failures", [False, True], ids=["together", "one by one after a failure"])
def test_routing_a_batch_is_routing_one_by_one(with_failures: bool) -> None:
    chance = random.Random(7)
    keep, failing = workflow(), workflow("failing", "- {id: stop, action: fail, with: {message: no}}")
    for name in ("a", "b"):
        Source.objects.create(name=name)
    filters = [
        "",
        "event.data.n > 50",
        "event.data.n % 7 == 0 && event.data.kind == 'x'",
        "event.data.gone",
        "event.data.n / (event.data.n % 3) > 1",
        "event.source.startsWith('/a') || event.data.n < 10",
        "size(event.data.list) > 2",
    ]
    for number in range(25):
        subscribe(
            f"s-{number}",
            chance.choice(["note", "no*", "order.*", "*"]),
            to=failing if number == 24 and with_failures else keep,
            sources=chance.choice([[], [], ["a"], ["a", "b"]]),
            filter=chance.choice(filters),
            enabled=number != 5,
        )
    for number in range(60):
        data = {"n": chance.randrange(100), "kind": chance.choice("xy"), "list": [1] * chance.randrange(5)}
        accept(
            note(str(number), data, type=chance.choice(["note", "order.paid", "nothing"])),
            source=chance.choice(["/a", "/b", "/a/x"]),
        )

    def outcome() -> tuple[Any, Any]:
        told = sorted(Event.objects.values_list("event_id", "verdicts"))
        runs = sorted((str(r.origin), r.trigger, r.state) for r in Run.objects.all())
        return told, runs

    batched = [done["events"] for done in drain()]
    assert batched == [60]
    together = outcome()
    Run.objects.all().delete()
    Event.objects.update(due_at=None, verdicts=[], routed_at=None)
    for event in Event.objects.all():
        Event.objects.filter(pk=event.pk).update(due_at=timezone.now())
        assert routing.route()["events"] == 1
    while engine.advance():
        pass
    assert outcome() == together
    assert {verdict["verdict"] for _, told in together[0] for verdict in told} == {
        *("matched", "filtered", "error", "disabled")
    }
