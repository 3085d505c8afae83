"""An event finds the steps that wait for it, and a step that begins to wait finds the events that came just before."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from events import ingest, routing, waiting
from events.cloudevents import Incoming
from events.models import Event, EventType, EventWait
from project.expressions import EvaluationError, compile_expression, make_context
from project.identifiers import new_uid
from workflows.actions import Call, StepError, Wait, actions
from workflows.definition import DefinitionError, parse
from workflows.models import Run, RunState, StepRun, StepState
from workflows.publishing import publish
from workflows.waits import Answer, complete

pytestmark = pytest.mark.django_db(transaction=True)

LONG = timedelta(days=1)
BY_ORDER = "incoming.data.order == event.data.order"


def accept(*events: Incoming) -> list[Event]:
    for event in events:
        EventType.objects.get_or_create(name=event.type)
    stored = ingest.accept(events, source="/shop", batch=True)
    return [Event.objects.get(pk=one.uid) for one in stored]


def paid(order: Any = "A-1", **data: Any) -> Incoming:
    return Incoming("order.paid", data={"order": order, **data})


def placed(order: Any = "A-1") -> Event:
    return accept(Incoming("order.placed", data={"order": order}))[0]


class Waiting:
    """A run at a step that waits, as the engine leaves it."""

    def __init__(self, origin: Event | None, match: str = BY_ORDER, *, timeout: str = "1h", known: Any = None) -> None:
        EventType.objects.get_or_create(name="order.paid")
        version, _ = publish("name: w\nsteps:\n- {id: s, action: transform, with: {values: {}}}")
        self.run = Run.objects.create(
            workflow=version.workflow,
            version=version,
            input=origin.envelope() if origin else {},
            state=RunState.WAITING,
        )
        self.step = StepRun(
            run=self.run, step="paid", position=0, action="event.wait", state=StepState.WAITING, attempts=1
        )
        context = {
            "event": self.run.input,
            "steps": {},
            "run": {"uid": str(self.run.uid), "started_at": timezone.now().isoformat()},
            "failure": {},
            **(known or {}),
        }
        self.call = Call(self.step.uid, self.run.uid, "w", "paid", 1, context)
        self.action = actions["event.wait"].model_validate({"type": "order.paid", "match": match, "timeout": timeout})

    def begin(self) -> Waiting:
        with transaction.atomic():
            [self.turn] = type(self.action).run_batch([(self.action, self.call)])
            self.step.save(force_insert=True)
        assert isinstance(self.turn, Wait)
        return self

    def look_back(self) -> Any:
        assert isinstance(self.turn, Wait)
        return self.wake(self.turn.output)

    def wake(self, output: Any) -> Any:
        return self.action.wake(self.call, output)

    def output(self) -> Any:
        self.step.refresh_from_db()
        return self.step.output

    def order(self) -> Any:
        """Of which order the event was that it got."""
        output = self.output()
        return output and output["event"]["data"]["order"]


def test_an_event_that_comes_later_ends_the_wait_of_its_order_alone() -> None:
    first, second = Waiting(placed("A-1")).begin(), Waiting(placed("A-2")).begin()
    for one in (first, second):
        until = one.look_back()
        assert isinstance(until, Wait)
        assert until.until is not None
        assert timedelta(minutes=59) < until.until - timezone.now() < timedelta(hours=1)
        assert until.output == {"outcome": "timed_out"}
    [event] = accept(paid("A-2"))
    routing.route()
    assert first.output() is None
    assert second.output() == {"outcome": "received", "event": event.envelope()}
    assert (second.step.state, second.step.due_at) == (StepState.SUCCEEDED, None)
    second.run.refresh_from_db()
    assert second.run.due_at is not None, "the engine goes on with the run"
    assert list(EventWait.objects.values_list("step", flat=True)) == [first.step.uid]


@pytest.mark.parametrize("routed", [False, True], ids=["still to be routed", "routed"])
def test_an_event_that_came_just_before_the_wait_counts(routed: bool) -> None:
    origin = placed()
    accept(paid("A-0"), paid("A-1", n=1), paid("A-1", n=2))
    if routed:
        while routing.route():
            pass
    waits = Waiting(origin).begin()
    found = waits.look_back()
    assert (found["outcome"], found["event"]["data"]) == ("received", {"order": "A-1", "n": 1}), "the first of them"


def test_what_came_before_the_runs_own_event_and_that_event_itself_do_not_count() -> None:
    accept(paid("A-1"))
    [origin] = accept(paid("A-1"))
    waits = Waiting(origin).begin()
    assert isinstance(waits.look_back(), Wait)
    Event.objects.update(due_at=timezone.now())
    routing.route()
    assert waits.output() is None
    accept(paid("A-1"))
    routing.route()
    assert waits.order() == "A-1"


def test_events_of_one_request_are_at_the_same_time() -> None:
    """The order and its payment come in one batch: the payment counts."""
    origin, _ = accept(Incoming("order.placed", data={"order": "A-1"}), paid("A-1"))
    assert Waiting(origin).begin().look_back()["outcome"] == "received"


def test_when_its_time_is_over_what_waits_to_be_routed_counts() -> None:
    waits = Waiting(placed()).begin()
    late = waits.look_back()
    assert isinstance(late, Wait)
    assert waits.wake(late.output) == {"outcome": "timed_out"}
    accept(paid())
    assert waits.wake(late.output)["outcome"] == "received"


def test_a_run_without_an_event_waits_from_its_start() -> None:
    accept(paid("A-1"))
    waits = Waiting(None, "incoming.data.order == 'A-1'").begin()
    assert isinstance(waits.look_back(), Wait)
    accept(paid("A-1"))
    assert waits.look_back()["outcome"] == "received"


def test_one_event_ends_many_waits_and_each_wait_ends_once() -> None:
    many = [Waiting(placed()).begin() for _ in range(20)]
    any_of_them = Waiting(placed("B"), "").begin()
    accept(paid("A-1", n=1), paid("A-1", n=2))
    routing.route()
    assert {waits.output()["event"]["data"]["n"] for waits in [*many, any_of_them]} == {1}
    assert not EventWait.objects.exists()
    accept(paid("A-1", n=3))
    routing.route()
    assert {waits.output()["event"]["data"]["n"] for waits in many} == {1}


@pytest.mark.parametrize(
    ("match", "meets"),
    [
        ("incoming.data.order == event.data.order && incoming.data.amount > 5", [False, True]),
        ("incoming.data.amount > 5 && event.data.order == incoming.data.order", [False, True]),
        ("incoming.data.order == event.data.order || incoming.data.amount > 50", [True, True]),
        ("incoming.data.amount == steps.ask.output.amount", [False, True]),
        ("incoming.data.order in ['A-1'] && incoming.source.startsWith('/shop')", [True, True]),
        ("incoming.data.gone == event.data.order", [False, False]),
        ("incoming.source == '/shop' && incoming.data.amount == 10.0", [False, True]),
        ("has(incoming.data.gone) && incoming.data.order == 'A-1'", [False, False]),
        ("incoming.data.order == event.data.order && run.uid != ''", [True, True]),
    ],
)
@pytest.mark.parametrize("before", [True, False], ids=["looked back for", "routed"])
def test_a_match_means_the_same_whoever_asks(match: str, meets: list[bool], before: bool) -> None:
    steps = {"ask": {"output": {"amount": 10, "large": ["x"] * 1000}}}
    for amount, expected in zip((1, 10), meets, strict=True):
        origin = placed()
        waits = Waiting(origin, match, known={"steps": steps})
        if not before:
            waits.begin()
        accept(paid(amount=amount))
        if before:
            found = waits.begin().look_back()
            assert (not isinstance(found, Wait)) == expected
        routing.route()
        assert (waits.output() is not None) == expected
        EventWait.objects.all().delete()
        Event.objects.all().delete()


def test_a_wait_keeps_only_what_its_match_reads() -> None:
    large = {"output": {"rows": [{"n": n} for n in range(1000)], "id": "x"}}
    match = "incoming.data.order == steps.ask.output.id && (event.data.order == 'A-1' || has(event.data.gone))"
    Waiting(placed(), match, known={"steps": {"ask": large}}).begin()
    wait = EventWait.objects.get()
    assert wait.seen == {"steps": {"ask": {"output": {"id": "x"}}}, "event": {"data": {"order": "A-1"}}}
    assert (wait.path, wait.value) == ('["data","order"]', "x")


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ("incoming.data.order == steps.gone.output", "match can never be true: no such key: gone"),
        ("incoming.data.order == item.id", "match can never be true: no variable item"),
    ],
)
def test_a_match_that_can_never_be_true_fails_its_step(match: str, reason: str) -> None:
    with pytest.raises(StepError, match=reason) as caught:
        Waiting(placed(), match).begin()
    assert caught.value.permanent


@pytest.mark.parametrize("how", ["completed", "cancelled", "deleted"])
def test_a_wait_goes_with_the_waiting_of_its_step(how: str) -> None:
    waits = Waiting(placed()).begin()
    other = Waiting(placed()).begin()
    StepRun.objects.update(input={})
    assert EventWait.objects.count() == 2
    match how:
        case "completed":
            assert complete({waits.step.uid: Answer({})})
        case "cancelled":
            StepRun.objects.filter(pk=waits.step.pk).update(state=StepState.CANCELLED)
        case "deleted":
            waits.run.delete()
    assert list(EventWait.objects.values_list("step", flat=True)) == [other.step.uid]


def test_events_that_nobody_waits_for_cost_one_small_query() -> None:
    for n in range(50):
        Waiting(placed(str(n))).begin()
    events = accept(*(Incoming(f"other.{n}", data={"order": "1"}) for n in range(20)))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        waiting.meet(events)
    assert len(queries) == 1


def test_ten_thousand_waits_cost_an_event_only_its_own() -> None:
    since = timezone.now() - LONG

    def of_order(name: str) -> EventWait:
        known = {"event": {"data": {"order": name}}}
        return waiting.new_wait(new_uid(), "order.paid", BY_ORDER, known, origin=None, since=since)

    EventWait.objects.bulk_create([of_order(f"A-{n}") for n in range(10_000)])
    waits = Waiting(placed("mine")).begin()
    events = accept(*(paid(f"B-{n}") for n in range(99)), paid("mine"))
    found = waiting._candidates(events, waiting._fields_waited_on({"order.paid"}))
    assert [(event.data["order"], len(found[event.uid])) for event in events if found[event.uid]] == [("mine", 1)]
    with transaction.atomic():
        waiting.meet(events)
    assert waits.order() == "mine"


def test_nothing_falls_between_looking_back_and_routing() -> None:
    """Waits begin and events come at the same time, in any order: every wait gets its event."""
    EventType.objects.create(name="order.placed")
    EventType.objects.create(name="order.paid")
    origins = [placed(str(n)) for n in range(30)]
    waits = [Waiting(origin) for origin in origins]
    while routing.route():
        pass
    failed: list[BaseException] = []

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)
            finally:
                connection.close()

        return threading.Thread(target=run)

    def begin() -> None:
        for one in waits:
            one.begin()
            with transaction.atomic():  # as the engine does: the run's lock, then the step
                Run.objects.select_for_update(no_key=True).get(pk=one.run.pk)
                if StepRun.objects.filter(pk=one.step.pk, state=StepState.WAITING).exists():
                    found = one.look_back()
                    if not isinstance(found, Wait):
                        StepRun.objects.filter(pk=one.step.pk).update(state=StepState.SUCCEEDED, output=found)

    def send() -> None:
        for origin in origins:
            accept(paid(origin.data["order"]))

    def route() -> None:
        deadline = timezone.now() + timedelta(seconds=20)
        while timezone.now() < deadline and EventWait.objects.exists() | sending.is_alive() | beginning.is_alive():
            routing.route()

    beginning, sending = guarded(begin), guarded(send)
    threads = [beginning, sending, guarded(route), guarded(route)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [one.order() for one in waits] == [origin.data["order"] for origin in origins]
    assert not EventWait.objects.exists()


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 1e300]),
    st.text(max_size=2),
    st.integers(-(1 << 63), (1 << 63) - 1),
)


@settings(deadline=None, max_examples=300)
@given(one=SCALARS, other=SCALARS)
def test_values_that_are_equal_to_cel_have_the_same_key(one: Any, other: Any) -> None:
    try:
        equal = compile_expression("a == b", ["a", "b"]).evaluate(make_context(a=one, b=other))
    except EvaluationError:
        equal = False
    if equal:
        assert waiting._key(one) == waiting._key(other) != ""


def problems(written: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        parse(f"name: w\nsteps:\n  - id: paid\n    action: event.wait\n    with: {{{written}}}")
    return [str(problem) for problem in caught.value.problems]


def test_a_workflow_whose_wait_is_wrong_is_refused() -> None:
    EventType.objects.create(name="order.paid")
    right = "incoming.data.order_id == event.data.order_id"
    assert problems('type: order.paid, timeout: 1h, match: "${{ incoming.data.x }}"')[-1].endswith(
        f"with.match: write the expression alone, without ${{{{ }}}}: {right}"
    )
    [told] = problems('type: order.paid, timeout: 1h, match: "incoming.data.x === 1"')
    assert "with.match: unexpected" in told
    assert "(at line 1, column 19 of 'incoming.data.x === 1')" in told
    [told] = problems('type: order.paid, timeout: 1h, match: "income.data.x == 1"')
    assert (
        'unknown variable "income", did you mean "incoming"? known: event, failure, incoming, index, item, run, steps'
        in told
    )
    [told] = problems('type: order.paid, timeout: 1h, match: "event.data.x == 1"')
    assert "has to read `incoming`, the event that comes" in told
    [told] = problems("type: order.payd, timeout: 1h")
    assert 'unknown event type "order.payd", did you mean "order.paid"?' in told
    assert "this field is required" in problems("type: order.paid")[0]
    assert "must be longer than 0s" in problems("type: order.paid, timeout: 0s")[0]


def test_a_type_that_is_gone_fails_the_step() -> None:
    waits = Waiting(placed())
    EventType.objects.filter(name="order.paid").delete()
    with pytest.raises(StepError, match=r'unknown event type "order\.paid"'):
        waits.begin()


def test_the_origin_is_the_runs_event_only_when_that_is_one() -> None:
    known = {"event": {"uid": str(new_uid()), "data": {"order": "A-1"}}}
    began = timezone.now()
    Waiting(None, known=known).begin()
    wait = EventWait.objects.get()
    assert wait.origin is None
    assert isinstance(wait.since, datetime)
    assert wait.since >= began - timedelta(seconds=1)
    assert isinstance(wait.step, UUID)
