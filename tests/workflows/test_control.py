"""Children, concurrency, cancelling and retrying."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflows.runs import drain, outcome, start, state, time_passes, workflow
from workflows import engine, waits
from workflows.actions import Action, Call, StepError, action
from workflows.engine import NotEnded
from workflows.models import Record, Run, StepRun
from workflows.waits import Answer

pytestmark = pytest.mark.django_db(transaction=True)

broken: set[str] = set()


@action("test.breakable")
class Breakable(Action):
    name_: str

    def run(self, call: Call) -> Any:
        if self.name_ in broken:
            raise StepError(f"{self.name_} is broken")
        Record.objects.create(collection="done", key=f"{self.name_}-{call.uid}", value=call.key)
        return self.name_


@pytest.fixture(autouse=True)
def nothing_broken() -> None:
    broken.clear()


def breakable(id_: str, rest: str = "") -> str:
    return f"  - {{id: {id_}, action: test.breakable, with: {{name_: {id_}}}{', ' + rest if rest else ''}}}\n"


def done() -> list[str]:
    keys = Record.objects.filter(collection="done").order_by("pk").values_list("key", flat=True)
    return [key.split("-")[0] for key in keys]


SLEEP = "  - {id: sleep, action: delay, with: {for: 1h}}\n"


# --- children --------------------------------------------------------------------------------------------------------


def test_a_step_waits_for_the_run_that_it_starts_and_has_its_outputs() -> None:
    workflow(SLEEP + '  - {id: sum, action: transform, with: {values: "${{ event.a + 1 }}"}}\n', name="child")
    (parent,) = start(
        workflow(
            '  - {id: call, action: workflow.run, with: {workflow: child, input: {a: "${{ event.n }}"}}}\n'
            '  - {id: use, action: transform, with: {values: "${{ steps.call.output.outputs.sum }}"}}\n'
        ),
        {"n": 41},
    )
    drain()
    assert state(parent) == "waiting"
    child = Run.objects.get(parent=parent.pk)
    assert (child.depth, child.state) == (1, "waiting")
    time_passes(3601)
    parent.refresh_from_db()
    assert (parent.state, parent.steps["use"]["output"]) == ("succeeded", 42)
    assert parent.steps["call"]["output"]["run"] == str(child.pk)


def test_a_child_that_fails_fails_the_step() -> None:
    workflow("  - {id: no, action: fail, with: {message: not today}}\n", name="child")
    (parent,) = start(workflow("  - {id: call, action: workflow.run, with: {workflow: child}}\n"), {})
    drain()
    parent.refresh_from_db()
    child = Run.objects.get(parent=parent.pk)
    assert (parent.state, parent.error) == ("failed", f"call: the run {child.pk} failed: no: not today")


def test_a_child_that_nobody_waits_for_goes_its_own_way() -> None:
    workflow("  - {id: no, action: fail, with: {message: not today}}\n", name="child")
    (parent,) = start(workflow("  - {id: call, action: workflow.run, with: {workflow: child, wait: false}}\n"), {})
    drain()
    assert state(parent) == "succeeded"
    assert Run.objects.get(parent=parent.pk).state == "failed"


def test_a_child_is_started_for_each_item_and_once() -> None:
    workflow(breakable("a"), name="child")
    (parent,) = start(
        workflow("  - {id: call, for_each: [1, 2, 3], action: workflow.run, with: {workflow: child, input: {}}}\n"), {}
    )
    drain()
    assert state(parent) == "succeeded"
    assert Run.objects.filter(parent=parent.pk).count() == 3
    assert len(done()) == 3


def test_runs_that_start_each_other_end() -> None:
    first = workflow("  - {id: a, action: transform, with: {values: 1}}\n", name="snake")
    bites = workflow("  - {id: call, action: workflow.run, with: {workflow: snake}}\n", name="snake")
    assert bites.number == first.number + 1
    start(bites, {})
    drain()
    assert Run.objects.count() == 21
    deepest = Run.objects.get(depth=20)
    assert "20 is the end" in deepest.error
    assert set(Run.objects.values_list("state", flat=True)) == {"failed"}


def test_a_cancelled_run_takes_along_what_it_started() -> None:
    workflow(SLEEP, name="grandchild")
    workflow("  - {id: call, action: workflow.run, with: {workflow: grandchild}}\n", name="child")
    (parent,) = start(
        workflow(
            "  - {id: call, needs: [], action: workflow.run, with: {workflow: child}}\n"
            "  - {id: other, needs: [], action: workflow.run, with: {workflow: child, wait: false}}\n"
            "  - {id: sleep, needs: [], action: delay, with: {for: 1h}}\n"
        ),
        {},
    )
    drain()
    assert engine.cancel(Run.objects.filter(pk=parent.pk), reason="stopped by hand") == 1
    drain()
    assert set(Run.objects.values_list("state", flat=True)) == {"cancelled"}
    assert Run.objects.count() == 5
    assert not StepRun.objects.filter(state__in=["waiting", "pending", "running"]).exists()
    parent.refresh_from_db()
    assert (parent.error, parent.due_at) == ("stopped by hand", None)


def test_a_child_of_a_step_that_was_broken_off_is_cancelled() -> None:
    workflow(SLEEP, name="child")
    broken.add("bad")
    (parent,) = start(
        workflow(
            "  - {id: call, needs: [], action: workflow.run, with: {workflow: child}}\n"
            "  - {id: short, needs: [], action: delay, with: {for: 1m}}\n" + breakable("bad", "needs: [short]")
        ),
        {},
    )
    drain()
    time_passes(61)
    assert state(parent) == "failed"
    assert Run.objects.get(parent=parent.pk).state == "cancelled"


# --- waiting for somebody --------------------------------------------------------------------------------------------


def approval(rest: str = "") -> Run:
    (run,) = start(
        workflow(
            f"  - {{id: ack, action: approval, with: {{{rest}}}}}\n"
            '  - {id: yes, if: steps.ack.outcome == "approved", action: transform, with: {values: 1}}\n'
        ),
        {},
    )
    drain()
    return run


def test_a_step_that_waits_goes_on_with_the_answer_and_takes_one_only() -> None:
    run = approval()
    step = StepRun.objects.get(run=run)
    assert (state(run), step.state, step.due_at) == ("waiting", "waiting", None)
    assert waits.complete({step.pk: Answer({"outcome": "approved"})}) == {step.pk}
    assert waits.complete({step.pk: Answer({"outcome": "rejected"})}) == set()
    drain()
    assert outcome(run) == {"ack": "succeeded", "yes": "succeeded"}


def test_a_step_that_nobody_answers_says_so() -> None:
    run = approval("timeout: 15m")
    time_passes(901)
    run.refresh_from_db()
    assert (run.state, run.steps["ack"]["outcome"], outcome(run)["yes"]) == ("succeeded", "timed_out", "skipped")
    step = StepRun.objects.get(run=run, step="ack")
    assert waits.complete({step.pk: Answer({"outcome": "approved"})}) == set()


def test_an_error_for_an_answer_fails_the_step() -> None:
    run = approval()
    waits.complete({StepRun.objects.get(run=run).pk: Answer(error="nobody is in")})
    drain()
    run.refresh_from_db()
    assert (run.state, run.error) == ("failed", "ack: nobody is in")


# --- concurrency -----------------------------------------------------------------------------------------------------


def limited(on_conflict: str, limit: int = 1) -> Any:
    rest = f'concurrency: {{key: "${{{{ event.key }}}}", limit: {limit}, on_conflict: {on_conflict}}}'
    return workflow(SLEEP, rest=rest)


@pytest.mark.parametrize("at_once", [True, False])
def test_runs_with_the_same_key_queue_in_their_order(at_once: bool) -> None:
    runs = start(limited("queue", limit=2), *({"key": "a"} for _ in range(5)), {"key": "b"}, at_once=at_once)
    drain()
    assert [Run.objects.get(pk=run.pk).queued for run in runs] == [False, False, True, True, True, False]
    time_passes(3601)
    assert [state(run) for run in runs] == ["succeeded", "succeeded", "waiting", "waiting", "waiting", "succeeded"]
    assert [Run.objects.get(pk=run.pk).queued for run in runs[2:5]] == [False, False, True]
    time_passes(3601)
    time_passes(3601)
    assert {state(run) for run in runs} == {"succeeded"}


def test_a_run_that_is_too_many_is_skipped() -> None:
    first, second, other = start(limited("skip"), {"key": "a"}, {"key": "a"}, {"key": "b"}, at_once=True)
    assert [state(run) for run in (first, second, other)] == ["waiting", "cancelled", "waiting"]
    assert Run.objects.get(pk=second.pk).error == "skipped: another run is at work under the key w:a"
    time_passes(3601)
    (third,) = start(limited("skip"), {"key": "a"}, at_once=True)
    assert state(third) == "waiting"


def test_a_run_takes_the_place_of_the_one_before() -> None:
    w = limited("replace")
    (first,) = start(w, {"key": "a"}, at_once=True)
    (second,) = start(w, {"key": "a"}, at_once=True)
    drain()
    assert (state(first), state(second)) == ("cancelled", "waiting")
    assert Run.objects.get(pk=first.pk).error == f"replaced by the run {second.pk}"
    second.refresh_from_db()
    assert not second.queued
    time_passes(3601)
    assert state(second) == "succeeded"


def test_a_queued_run_that_is_cancelled_does_not_hold_up_the_queue() -> None:
    runs = start(limited("queue"), *({"key": "a"} for _ in range(3)))
    drain()
    engine.cancel(Run.objects.filter(pk=runs[1].pk), reason="no")
    drain()
    assert [state(run) for run in runs] == ["waiting", "cancelled", "waiting"]
    time_passes(3601)
    time_passes(3601)
    assert [state(run) for run in runs] == ["succeeded", "cancelled", "succeeded"]


def test_a_key_that_has_no_value_fails_the_run() -> None:
    (run,) = start(limited("queue"), {})
    drain()
    run.refresh_from_db()
    assert (run.state, run.error) == ("failed", "concurrency.no such key: key")


# --- retrying --------------------------------------------------------------------------------------------------------


def test_a_failed_run_goes_on_from_where_it_failed() -> None:
    broken.add("b")
    (run,) = start(
        workflow(breakable("a") + breakable("b") + breakable("c"), rest="on_failure:\n" + breakable("tell")), {}
    )
    drain()
    assert (state(run), done()) == ("failed", ["a", "tell"])
    with pytest.raises(Run.DoesNotExist):
        engine.retry(StepRun.objects.filter(run=run).first().pk)  # type: ignore[union-attr]
    broken.clear()
    engine.retry(run.pk)
    drain()
    run.refresh_from_db()
    assert (run.state, run.error, run.round, done()) == ("succeeded", "", 1, ["a", "tell", "b", "c"])
    rows = StepRun.objects.filter(run=run).order_by("uid")
    assert [(row.round, row.step, row.state) for row in rows] == [
        (0, "a", "succeeded"),
        (0, "b", "failed"),
        (0, "tell", "succeeded"),
        (1, "b", "succeeded"),
        (1, "c", "succeeded"),
    ]
    with pytest.raises(NotEnded, match="succeeded"):
        engine.retry(run.pk)


def test_what_was_taken_back_is_done_again() -> None:
    broken.add("b")
    undo = "undo: {action: test.breakable, with: {name_: unbook}}"
    (run,) = start(workflow(breakable("book", undo) + breakable("b")), {})
    drain()
    broken.clear()
    engine.retry(run.pk)
    drain()
    assert (state(run), done()) == ("succeeded", ["book", "unbook", "book", "b"])


def test_a_loop_goes_on_with_the_items_that_failed() -> None:
    broken.add("y")
    (run,) = start(
        workflow('  - {id: each, for_each: [x, y, z], action: test.breakable, with: {name_: "${{ item }}"}}\n'), {}
    )
    drain()
    assert (state(run), done()) == ("failed", ["x", "z"])
    broken.clear()
    engine.retry(run.pk)
    drain()
    run.refresh_from_db()
    assert (run.state, done()) == ("succeeded", ["x", "z", "y"])
    assert run.steps["each"]["output"] == ["x", "y", "z"]


def test_a_run_is_retried_with_its_own_version_or_the_newest() -> None:
    old = workflow("  - {id: a, action: fail, with: {message: old}}\n")
    pinned, newest = start(old, {}, {})
    drain()
    workflow("  - {id: a, action: transform, with: {values: new}}\n")
    engine.retry(pinned.pk)
    engine.retry(newest.pk, newest=True)
    drain()
    assert (state(pinned), state(newest)) == ("failed", "succeeded")


def test_a_cancelled_run_can_be_retried_and_queues_again() -> None:
    first, second = start(limited("queue"), {"key": "a"}, {"key": "a"})
    drain()
    engine.cancel(Run.objects.filter(pk=first.pk), reason="no")
    drain()
    engine.retry(first.pk)
    drain()
    assert [Run.objects.get(pk=run.pk).queued for run in (first, second)] == [True, False]
    time_passes(3601)
    time_passes(3601)
    assert (state(first), state(second)) == ("succeeded", "succeeded")
