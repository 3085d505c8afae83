"""Random workflows on the real engine, with failures, lost connections, cancelling and retries, against a model."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models import Min
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import servers
from tests.workflows import runs
from tests.workflows.model import (
    ABSENT,
    FOREVER,
    PAUSE,
    SAME_MOMENT,
    Course,
    Fate,
    Flow,
    Place,
    Step,
    allowed,
    attempts,
    course,
)
from workflows import engine, waits
from workflows.actions import Action, Call, StepError, action
from workflows.models import ACTIVE, Record, Run, StepRun, WorkflowVersion
from workflows.publishing import publish
from workflows.waits import Answer
from workflows.work import Start

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "40"))

Event: TypeAlias = dict[str, Any]


@action("model.do")
class Do(Action):
    """Leaves a mark in the database, then fails as often as `b` says."""

    b: dict[str, Any]

    def run(self, call: Call) -> Any:
        round_ = Run.objects.filter(pk=call.run).values_list("round", flat=True).first() or 0
        mark = {"run": str(call.run), "step": call.step, "item": call.item, "round": round_}
        Record.objects.create(collection="marks", key=str(uuid4()), value=mark)
        if call.attempt <= self.b["fails"] and not (round_ and self.b["heals"]):
            if self.b["permanent"]:
                raise StepError("it went off", permanent=True)
            if self.b["how"] == "value":
                raise ValueError("it went off")
            if self.b["how"] == "database":
                StepRun.objects.create(run_id=call.run, step=call.step)  # without its position
            raise StepError("it went off")
        return {"did": call.step}


# --- what is played --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Workflows with the events their runs are started with, and what goes wrong meanwhile."""

    flows: tuple[tuple[Flow, tuple[Event, ...]], ...]
    crashes: tuple[tuple[int, bool], ...] = ()  # at which statement of a drain the connection is lost; whether after it
    cancels: tuple[tuple[int, int], ...] = ()  # after how many drains which run is cancelled
    retries: int = 0  # how often all that did not succeed is retried
    at_once: bool = False


def behaviours(fails: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "fails": fails,
            "permanent": st.booleans(),
            "how": st.sampled_from(["step", "value", "database"]),
            "heals": st.booleans(),
        }
    )


often_well = st.sampled_from([0, 0, 0, 0, 0, 1, 2, 99])
undoes = st.sampled_from([0, 0, 0, 1, 99])


@st.composite
def steps(draw: st.DrawFn, id_: str, needs: tuple[str, ...] | None, child: Flow | None, small: bool) -> Step:
    kinds = ["do", "do", "do", "delay"] if small else ["do", "do", "do", "delay", "approval", *["child"] * bool(child)]
    kind: Any = draw(st.sampled_from(kinds))
    loop = kind != "approval" and draw(st.integers(0, 3)) == 0
    return Step(
        id=id_,
        kind=kind,
        needs=needs,
        loop=loop,
        parallel=draw(st.sampled_from([None, 1, 2])) if loop and not small else None,
        condition=draw(st.sampled_from(["", "", "once", "each"])),
        on_error=draw(st.sampled_from(["fail", "fail", "continue"])),
        attempts=draw(st.sampled_from([1, 1, 2, 3])) if kind == "do" else 1,
        timeout=draw(st.sampled_from([None, None, None, PAUSE + 200, 2 * PAUSE + 200])),
        lasts=PAUSE * draw(st.integers(1, 4)),
        undo=draw(st.booleans()),
        undo_attempts=1 if small else draw(st.sampled_from([1, 2])),
        child=child if kind == "child" else None,
    )


@st.composite
def workflows(draw: st.DrawFn, name: str, child: Flow | None, small: bool = False) -> Flow:
    n = draw(st.integers(1, 3 if small else 6))
    ids = [f"s{at}" for at in range(n)]
    graph = not small and draw(st.booleans())
    made = []
    for at, id_ in enumerate(ids):
        needs = None
        if graph:
            needs = tuple(draw(st.lists(st.sampled_from(ids[:at]), unique=True, max_size=3))) if at else ()
        made.append(draw(steps(id_, needs, child, small)))
    if graph:
        made = draw(st.permutations(made))
    return Flow(
        name,
        tuple(made),
        on_failure=draw(st.integers(0, 2)),
        timeout=draw(st.sampled_from([None, None, None, PAUSE + 400, 3 * PAUSE + 400])),
    )


@st.composite
def events(draw: st.DrawFn, flow: Flow) -> Event:
    """What the steps of a run do."""
    event: Event = {"g": {}, "s": {}}
    for step in flow.steps:
        event["g"][step.id] = draw(st.integers(0, 3)) > 0
        if step.loop:
            event["s"][step.id] = [draw(cells(step)) for _ in range(draw(st.integers(0, 4)))]
        else:
            event["s"][step.id] = draw(cells(step))
    for n in range(flow.on_failure):
        event["s"][f"f{n}"] = {"b": draw(behaviours(st.sampled_from([0, 0, 0, 99])))}
    return event


@st.composite
def cells(draw: st.DrawFn, step: Step) -> dict[str, Any]:
    cell: dict[str, Any] = {"go": draw(st.integers(0, 3)) > 0}
    if step.kind == "do":
        cell["b"] = draw(behaviours(often_well))
    if step.undo:
        cell["u"] = draw(behaviours(undoes))
    if step.kind == "approval":
        cell["answer"] = draw(st.sampled_from(["", "approved", "rejected"]))
    if step.kind == "child":
        assert step.child is not None
        cell["input"] = draw(events(step.child))
    return cell


@st.composite
def cases(draw: st.DrawFn) -> Case:
    child = draw(workflows("child", None, small=True))
    flows = []
    for n in range(draw(st.integers(1, 2))):
        flow = draw(workflows(f"w{n}", child))
        flows.append((flow, tuple(draw(events(flow)) for _ in range(draw(st.integers(1, 3))))))
    return Case(
        tuple(flows),
        crashes=tuple(draw(st.lists(st.tuples(st.integers(1, 25), st.booleans()), max_size=4))),
        cancels=tuple(draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=2))),
        retries=draw(st.integers(0, 2)),
        at_once=draw(st.booleans()),
    )


# --- playing it ------------------------------------------------------------------------------------------------------


class Stuck(AssertionError):
    pass


@contextmanager
def connection_lost_at(statement: int, *, after: bool) -> Iterator[None]:
    """PostgreSQL ends our session at the n-th statement from now: before it is done, or after."""
    left = statement

    def lose(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal left
        left -= 1
        if left or connection.connection is None:
            return execute(sql, params, many, context)
        result = execute(sql, params, many, context) if after else None
        _end_session(connection.connection.info.backend_pid)
        return result if after else execute(sql, params, many, context)

    try:
        with connection.execute_wrapper(lose):
            yield
    except Exception:  # whatever was being done when the loss was noticed
        if left > 0:
            raise
        connection.close()


def _end_session(pid: int) -> None:
    name = connection.settings_dict["NAME"]
    with psycopg.connect(servers.postgres.url, dbname=name, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


class Played:
    """A case that was played to its end, with its runs."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.crashes = list(case.crashes)
        self.flows: dict[UUID, tuple[Flow, Event]] = {}
        self.cancelled: set[tuple[UUID, int]] = set()  # runs with their rounds
        _empty()
        children = {step.child for flow, _ in case.flows for step in flow.steps if step.child}
        for flow in children:
            publish(flow.written())
        started: list[tuple[WorkflowVersion, Flow, Event]] = []
        for flow, given_ in case.flows:
            version, _ = publish(flow.written())
            started += [(version, flow, event) for event in given_]
        starts = [Start(version.workflow_id, version.pk, event) for version, _, event in started]
        for run, (_, flow, event) in zip(self._start(starts), started, strict=True):
            self.flows[run.pk] = (flow, event)
        self.uids = list(self.flows)

    def _start(self, starts: list[Start]) -> list[Run]:
        if self.case.at_once:
            try:
                with transaction.atomic():
                    return engine.start(starts)
            except Exception:  # one of them cannot be done together with the others
                pass
        with transaction.atomic():
            return engine.start(starts, at_once=False)

    def play(self) -> None:
        cancels = defaultdict(list)
        for after, run in self.case.cancels:
            cancels[after].append(run)
        drains = 0
        for round_ in range(self.case.retries + 1):
            if round_:
                for ended in Run.objects.filter(pk__in=self.uids, state__in=("failed", "cancelled")):
                    engine.retry(ended.pk)
            while Run.objects.filter(state__in=ACTIVE).exists():
                self._drain()
                for at in cancels.pop(drains, ()):
                    self._cancel(self.uids[at % len(self.uids)])
                drains += 1
                if self._answer() or Run.objects.due().exists():
                    continue
                if Run.objects.filter(state__in=ACTIVE).exists():
                    self._wait()
                if drains > 400:
                    raise Stuck("no end")

    def _drain(self) -> None:
        while self.crashes:
            at, after = self.crashes.pop()
            with connection_lost_at(at, after=after):
                runs.drain()
        runs.drain()

    def _cancel(self, uid: UUID) -> None:
        round_ = Run.objects.values_list("round", flat=True).get(pk=uid)
        if engine.cancel(Run.objects.filter(pk=uid), reason="test"):
            self.cancelled.add((uid, round_))

    def _answer(self) -> int:
        answers = {}
        for row in StepRun.objects.filter(state="waiting", action="approval"):
            _, event = self.flows[row.run_id]
            if outcome := event["s"][row.step]["answer"]:
                answers[row.pk] = Answer({"outcome": outcome, "comment": ""})
        done = waits.complete(answers)
        assert done == set(answers)
        return len(done)

    def _wait(self) -> None:
        """To the next moment at which something is due."""
        due = Run.objects.aggregate(due=Min("due_at"))["due"]
        if due is None:
            raise Stuck(str(list(Run.objects.filter(state__in=ACTIVE).values("state", "steps", "due_at"))))
        wait = (due - timezone.now()).total_seconds() + 2
        if wait > 0:
            with transaction.atomic():
                runs.move_back(wait)


def _empty() -> None:
    with connection.cursor() as cursor:
        tables = "workflows_steprun workflows_run workflows_record workflows_gate workflows_gathered"
        for table in [*tables.split(), "workflows_workflowversion", "workflows_workflow"]:
            cursor.execute(f"DELETE FROM {table}")


# --- comparing -------------------------------------------------------------------------------------------------------


def compare(played: Played) -> None:
    marks: dict[UUID, list[tuple[str, int | None, int]]] = defaultdict(list)
    for mark in Record.objects.filter(collection="marks").order_by("pk").values_list("value", flat=True):
        marks[UUID(mark["run"])].append((mark["step"], mark["item"], mark["round"]))
    rows: dict[UUID, list[StepRun]] = defaultdict(list)
    for row in StepRun.objects.order_by("uid"):
        rows[row.run_id].append(row)
    by_origin = defaultdict(list)
    for run in Run.objects.all():
        by_origin[run.origin].append(run)
        _compare_anyhow(run, rows[run.pk], marks[run.pk])
    for uid, (flow, event) in played.flows.items():
        cut = {round_ for run, round_ in played.cancelled if run == uid}
        _compare_run(Run.objects.get(pk=uid), flow, event, rows[uid], marks[uid], cut)
        for row in rows[uid]:
            step = next((step for step in flow.steps if step.id == row.step), None)
            if step is None or step.kind != "child" or row.state == "skipped" or (step.loop and row.item is None):
                continue
            (child,) = by_origin.pop(row.pk)
            assert step.child is not None
            cell = event["s"][step.id]
            given_ = (cell[row.item] if step.loop else cell)["input"]
            if child.state == "cancelled":  # its parent was, or did not wait any longer
                assert row.state in ("cancelled", "failed")
                continue
            if row.error.startswith("timed out"):  # the child may have come to its end at that moment
                continue
            if row.state in ("succeeded", "failed"):
                assert child.state == row.state, (row.step, row.state, row.error, child.state)
            _compare_run(child, step.child, given_, rows[child.pk], marks[child.pk], set())
    assert set(by_origin) == {None}


def _compare_anyhow(run: Run, rows: list[StepRun], marks: list[tuple[str, int | None, int]]) -> None:
    """What holds for every run at its end, whatever happened."""
    assert run.state in ("succeeded", "failed", "cancelled")
    assert run.due_at is None
    assert {row.state for row in rows} <= {"succeeded", "skipped", "failed", "cancelled"}
    assert not [row for row in rows if row.due_at]
    done = Counter((row.step, row.item, row.round) for row in rows if row.action == "model.do" and _did(row))
    assert Counter(marks) == done, (Counter(marks) - done, done - Counter(marks))


def _did(row: StepRun) -> bool:
    return row.state == "succeeded" and row.output != []  # an empty list is a success without an effect


def _compare_run(
    run: Run,
    flow: Flow,
    event: Event,
    rows: list[StepRun],
    marks: list[tuple[str, int | None, int]],
    cut: set[int],
) -> None:
    """Each round of a run against what the model says; rounds in `cut` were cancelled and may have ended anywhere."""
    done: dict[Place, str] = {}
    for round_ in range(run.round + 1):
        of_round = {(row.step, row.item): row for row in rows if row.round == round_}
        if round_ not in cut:
            expected = course(flow, event, round_=round_, done=done)
            if expected.unsure:
                return
            last = round_ == run.round
            failed = expected.fails_at < FOREVER
            if last:
                assert run.state == expected.state, (run.state, run.error, expected)
            _compare_steps(flow, expected, of_round)
            _compare_recovery(flow, event, round_, failed, done, of_round)
            if last:
                _compare_told(flow, run, expected, of_round, done)
        _compare_order(flow, [(step, item) for step, item, of in marks if of == round_])
        done = _kept(flow, event, done, of_round)


def _compare_steps(flow: Flow, expected: Course, rows: dict[Place, StepRun]) -> None:
    fatal = []
    for step in flow.steps:
        fate = expected.fates.get(step.id)
        of_step = {item: row for (id_, item), row in rows.items() if id_ == step.id}
        if fate is None:  # what it needs fails for good
            assert not of_step, f"{step.id} was begun"
            continue
        if not fate.items:
            _compare_one(step.id, fate, of_step.pop(None, None), expected.fails_at)
            assert not of_step
        else:
            assert None not in of_step
            until = expected.fails_at
            if step.on_error == "fail" and fate.state == "failed":
                until = min(until, fate.end)
            for item, one in fate.items.items():
                _compare_one(f"{step.id}[{item}]", one, of_step.pop(item, None), until)
            assert not of_step
        if fate.state == "failed" and step.on_error == "fail" and abs(fate.end - expected.fails_at) < SAME_MOMENT:
            fatal.append(step.id)
    if fatal:
        assert any(row.state == "failed" for (id_, _), row in rows.items() if id_ in fatal)


def _compare_one(name: str, fate: Fate, row: StepRun | None, until: float) -> None:
    state = ABSENT if row is None else row.state
    assert state in allowed(fate, until), (name, state, row and row.error, fate, until)
    if row is not None and fate.attempts is not None and state == fate.state:
        assert row.attempts == fate.attempts, (name, row.attempts, fate)


def _compare_recovery(
    flow: Flow, event: Event, round_: int, failed: bool, done: dict[Place, str], rows: dict[Place, StepRun]
) -> None:
    """A run that failed takes back all that succeeded, then does its on_failure steps; others do nothing of it."""
    undos = {(id_.removesuffix(".undo"), item): row for (id_, item), row in rows.items() if id_.endswith(".undo")}
    for place in [place for place in undos if place[1] is None and flow.step(place[0]).loop]:
        assert undos.pop(place).output == []  # a list of nothing
    wanted = {}
    if failed:
        stand = dict(done)
        stand |= {place: row.state for place, row in rows.items() if "." not in place[0] and place[0][0] == "s"}
        for (id_, item), state in stand.items():
            step = flow.step(id_)
            if state == "succeeded" and step.undo and (item is not None) == step.loop:
                cell = event["s"][id_] if item is None else event["s"][id_][item]
                wanted[id_, item] = attempts(cell["u"], step.undo_attempts, None, round_)
    assert set(undos) == set(wanted), f"taken back: {sorted(map(str, undos))}, not {sorted(map(str, wanted))}"
    for place, row in undos.items():
        assert (row.state, row.attempts) == (wanted[place].state, wanted[place].attempts), (place, row.state)
    after = [rows.get((f"f{n}", None)) for n in range(flow.on_failure)]
    goes_on = failed
    for n, row_ in enumerate(after):
        assert (row_ is not None) == goes_on, f"f{n}"
        if row_ is not None:
            fate = attempts(event["s"][f"f{n}"]["b"], 1, None, round_)
            assert row_.state == fate.state
            goes_on = fate.state == "succeeded"  # one that fails is the end


def _compare_order(flow: Flow, marks: list[Place]) -> None:
    at: dict[str, list[int]] = defaultdict(list)
    for n, (id_, _) in enumerate(marks):
        at[id_].append(n)
    forwards = [n for id_, all_ in at.items() if id_[0] == "s" and "." not in id_ for n in all_]
    backwards = [n for id_, all_ in at.items() if id_.endswith(".undo") for n in all_]
    on_failure = [n for id_, all_ in at.items() if id_[0] == "f" for n in all_]
    assert max(forwards, default=-1) < min([*backwards, *on_failure], default=len(marks)), marks
    assert max(backwards, default=-1) < min(on_failure, default=len(marks)), marks
    assert on_failure == sorted(on_failure)
    for step in flow.steps:
        items = [item for id_, item in marks if id_ == f"{step.id}.undo" and item is not None]
        assert items == sorted(items, reverse=True), marks
        for before in flow.before(step.id):
            assert max(at[before], default=-1) < min(at[step.id], default=len(marks)), marks
            assert max(at[f"{step.id}.undo"], default=-1) < min(at[f"{before}.undo"], default=len(marks)), marks


def _compare_told(flow: Flow, run: Run, expected: Course, rows: dict[Place, StepRun], done: dict[Place, str]) -> None:
    """What later steps see of a step that has ended."""
    for step in flow.steps:
        fate, entry = expected.fates.get(step.id), run.steps.get(step.id)
        if fate is None or fate.ahead or entry is None or fate.end > expected.fails_at - SAME_MOMENT:
            continue
        assert entry["state"] == fate.state
        if step.loop and fate.items:
            errors = {str(at) for at, item in fate.items.items() if item.state == "failed"}
            assert set(entry.get("errors", ())) == errors
            assert len(entry["output"]) == len(fate.items)
            if step.kind == "do":
                did = [at for at, output in enumerate(entry["output"]) if output == {"did": step.id}]
                assert did == [at for at, item in sorted(fate.items.items()) if item.state == "succeeded"]


def _kept(flow: Flow, event: Event, done: dict[Place, str], rows: dict[Place, StepRun]) -> dict[Place, str]:
    """What is not done again when the run is retried: what succeeded and was not taken back, or did not matter."""
    kept: dict[Place, str] = {}
    for step in flow.steps:
        states = {item: state for (id_, item), state in done.items() if id_ == step.id}
        states |= {item: row.state for (id_, item), row in rows.items() if id_ == step.id}
        back = {item: row.state for (id_, item), row in rows.items() if id_ == f"{step.id}.undo"}
        if step.loop:
            back.pop(None, None)  # it had nothing to take back
        taken_back = {item for item, state in back.items() if state == "succeeded"}
        fine = {"succeeded", "skipped", *(["failed"] if step.on_error == "continue" else [])}
        if len(states) > 1:
            states.pop(None, None)  # what is said of a loop as a whole follows from its items
        if not step.loop or None in states:
            if states.get(None) in fine and (step.loop or None not in taken_back):
                kept[step.id, None] = states[None]
            continue
        complete = bool(states) and set(states) == set(range(len(event["s"][step.id]))) and set(states.values()) <= fine
        if complete and not taken_back:
            kept[step.id, None] = "failed" if "failed" in states.values() else "succeeded"
            kept |= {(step.id, at): state for at, state in states.items()}
        else:
            kept |= {
                (step.id, at): state for at, state in states.items() if state == "succeeded" and at not in taken_back
            }
    return kept


def check(case: Case) -> None:
    played = Played(case)
    try:
        played.play()
        compare(played)
    except AssertionError as error:
        error.add_note("\n".join(_story(played)))
        raise


def _story(played: Played) -> Iterator[str]:
    for uid, (flow, event) in played.flows.items():
        run = Run.objects.get(pk=uid)
        yield f"--- run {uid}: {run.state}, round {run.round}, {run.error!r}, cancelled {played.cancelled}"
        yield repr(flow)
        yield repr(event)
        yield repr(run.steps)
        for row in StepRun.objects.filter(run=run).order_by("uid"):
            yield f"    round {row.round} {row.step} {row.item} {row.state} {row.attempts} {row.error!r} {row.output!r}"


@pytest.mark.timeout(0 if EXAMPLES > 1000 else 120)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=False,
    print_blob=False,
    phases=[Phase.generate, *([Phase.shrink] if "MODEL_SHRINK" in os.environ else [])],
    suppress_health_check=list(HealthCheck),
)
@given(case=cases())
def test_random_workflows_do_what_the_model_says(case: Case) -> None:
    check(case)
