"""Graphs, loops, undoing and what follows a failure."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflows.runs import drain, outcome, start, state, time_passes, workflow
from workflows import engine
from workflows.actions import Action, Call, StepError, action
from workflows.models import Record, Run, StepRun

pytestmark = pytest.mark.django_db(transaction=True)


@action("test.do")
class Do(Action):
    """Remembers in the database that it was done, so that what is undone is forgotten; fails as told."""

    what: str
    fail: Any = False

    def run(self, call: Call) -> Any:
        Record.objects.create(collection="done", key=self.what, value=True)
        if self.fail:
            raise StepError(f"{self.what} failed", permanent=True)
        return {"did": self.what}


@action("test.retried")
class Retried(Do):
    """Fails until its attempt with this number."""

    from_attempt: int

    def run(self, call: Call) -> Any:
        if call.attempt < self.from_attempt:
            raise StepError("not yet")
        return super().run(call)


def done() -> list[str]:
    return list(Record.objects.filter(collection="done").order_by("pk").values_list("key", flat=True))


def do(id_: str, rest: str = "", fail: str = "false") -> str:
    return f"  - {{id: {id_}, action: test.do, with: {{what: {id_}, fail: {fail}}}{', ' + rest if rest else ''}}}\n"


def run_of(steps: str, given: dict[str, Any] | None = None, rest: str = "") -> Run:
    (run,) = start(workflow(steps, rest=rest), given or {})
    drain()
    run.refresh_from_db()
    return run


def test_steps_wait_for_what_they_need_wherever_they_are_written() -> None:
    run = run_of(
        do("last", "needs: [left, right]") + do("left", "needs: [first]") + do("right", "needs: [first]") + do("first")
    )
    assert run.state == "succeeded"
    assert done() == ["first", "left", "right", "last"]


def test_a_step_that_needs_a_skipped_one_is_done() -> None:
    run = run_of(do("a", "if: false") + do("b", "needs: [a]"))
    assert (run.state, done()) == ("succeeded", ["b"])


def test_a_failed_branch_keeps_what_needs_it_from_beginning() -> None:
    run = run_of(do("a", fail="true") + do("b") + do("c", "needs: [a]") + do("d", "needs: [b]"))
    assert (run.state, run.error) == ("failed", "a: a failed")
    assert done() == ["b"]  # what is ready together is begun together; nothing is begun after a failure
    assert outcome(run) == {"a": "failed", "b": "succeeded"}


def test_a_failure_breaks_off_the_branches_that_wait() -> None:
    run = run_of(
        do("early")
        + "  - {id: sleep, action: delay, with: {for: 1h}}\n"
        + do("late", "needs: [early]", fail="true")
        + do("end", "needs: [sleep]")
    )
    assert run.state == "failed"
    assert outcome(run) == {"early": "succeeded", "sleep": "cancelled", "late": "failed"}
    assert run.due_at is None


def test_one_step_run_is_made_for_each_item() -> None:
    run = run_of(
        '  - {id: each, for_each: "${{ event.names }}", action: test.do, with: {what: "${{ item }}-${{ index }}"}}\n'
        '  - {id: then, action: transform, with: {values: "${{ steps.each.output.map(o, o.did) }}"}}\n',
        {"names": ["x", "y", "z"]},
    )
    assert run.state == "succeeded"
    assert run.steps["then"]["output"] == ["x-0", "y-1", "z-2"]
    assert outcome(run) == {"each[0]": "succeeded", "each[1]": "succeeded", "each[2]": "succeeded", "then": "succeeded"}


@pytest.mark.parametrize(("names", "states"), [([], {"each": "succeeded"}), (["x"], {"each[0]": "succeeded"})])
def test_an_empty_list_is_done_at_once(names: list[str], states: dict[str, str]) -> None:
    run = run_of(
        '  - {id: each, for_each: "${{ event.names }}", action: test.do, with: {what: "${{ item }}"}}\n',
        {"names": names},
    )
    assert run.state == "succeeded"
    assert run.steps["each"]["output"] == [{"did": name} for name in names]
    assert outcome(run) == states


@pytest.mark.parametrize(
    ("names", "says"),
    [("text", "for_each: is no list"), ({"a": 1}, "for_each: is no list"), (["x"] * 1001, "for_each: has 1001 items")],
)
def test_what_is_no_list_fails_the_step(names: Any, says: str) -> None:
    run = run_of('  - {id: each, for_each: "${{ event.names }}", action: test.do, with: {what: a}}\n', {"names": names})
    assert run.state == "failed"
    assert says in run.error


def test_a_condition_that_reads_the_item_is_asked_for_each() -> None:
    run = run_of(
        '  - {id: each, for_each: [1, 2, 3], if: item != 2, action: test.do, with: {what: "n${{ item }}"}}\n'
        "  - {id: none, for_each: [1, 2], if: event.no, action: test.do, with: {what: never}}\n",
        {"no": False},
    )
    assert done() == ["n1", "n3"]
    assert outcome(run) == {"each[0]": "succeeded", "each[1]": "skipped", "each[2]": "succeeded", "none": "skipped"}
    assert run.steps["each"] == {
        "state": "succeeded",
        "output": [{"did": "n1"}, {"reason": "item != 2 is false (item = 2)"}, {"did": "n3"}],
        "done": [0, 2],
    }


def test_a_failed_item_fails_the_step_unless_errors_do_not_matter() -> None:
    loop = (
        "  - {{id: each, for_each: [0, 1, 2], on_error: {on_error}, action: test.do,"
        ' with: {{what: "n${{{{ item }}}}", fail: "${{{{ item == 1 }}}}"}}}}\n'
    )
    failed = run_of(loop.format(on_error="fail") + do("after"))
    assert (failed.state, failed.error) == ("failed", "each: item 1: n1 failed")
    assert "after" not in outcome(failed)
    Record.objects.all().delete()
    went_on = run_of(loop.format(on_error="continue") + do("after"))
    assert went_on.state == "succeeded"
    assert went_on.steps["each"]["errors"] == {"1": "n1 failed"}
    assert went_on.steps["each"]["output"] == [{"did": "n0"}, None, {"did": "n2"}]


def test_no_more_items_are_under_way_than_may_be() -> None:
    (run,) = start(
        workflow("  - {id: each, for_each: [1, 2, 3, 4, 5], parallel: 2, action: delay, with: {for: 1h}}\n"), {}
    )
    drain()
    seen = []
    while state(run) != "succeeded":
        waiting = StepRun.objects.filter(run=run, state="waiting").order_by("item")
        seen.append(list(waiting.values_list("item", flat=True)))
        time_passes(3600)
    assert seen == [[0, 1], [2, 3], [4]]


def test_what_was_done_is_taken_back_from_the_last_step_to_the_first() -> None:
    run = run_of(
        do("book", "undo: {action: test.do, with: {what: 'unbook ${{ steps.book.output.did }}'}}")
        + do("skipped", "if: false, undo: {action: test.do, with: {what: never}}")
        + do("pay", "undo: {action: test.do, with: {what: refund, fail: true}}")
        + do("ship", "undo: {action: test.do, with: {what: never}}", fail="true"),
        rest="on_failure:\n" + do("tell"),
    )
    assert run.state == "failed"
    assert run.error == "ship: ship failed"
    assert done() == ["book", "pay", "unbook book", "tell"]
    assert outcome(run)["pay.undo"] == "failed"


def test_a_loop_is_taken_back_item_by_item() -> None:
    run_of(
        '  - {id: each, for_each: [a, b, c], if: item != "b", action: test.do, with: {what: "${{ item }}"},\n'
        '     undo: {action: test.do, with: {what: "undo ${{ item }} ${{ index }}"}}}\n' + do("last", fail="true")
    )
    assert done() == ["a", "c", "undo c 2", "undo a 0"]


def test_a_step_may_wait_only_so_long() -> None:
    run = run_of("  - {id: sleep, action: delay, with: {for: 2h}, timeout: 1h}\n")
    assert run.state == "waiting"
    time_passes(3601)
    assert (state(run), Run.objects.get().error) == ("failed", "sleep: timed out after 1h")


def test_a_run_may_take_only_so_long() -> None:
    run = run_of("  - {id: sleep, action: delay, with: {for: 2h}}\n", rest="timeout: 1h\non_failure:\n" + do("tell"))
    time_passes(3599)
    assert state(run) == "waiting"
    time_passes(2)
    run.refresh_from_db()
    assert (run.state, run.error, done()) == ("failed", "timed out after 1h", ["tell"])
    assert outcome(run) == {"sleep": "cancelled", "tell": "succeeded"}


def test_what_takes_back_is_tried_again_as_its_policy_says() -> None:
    """The run has failed, but what follows a failure is not broken off by it."""
    run = run_of(
        do(
            "book",
            "undo: {action: test.retried, with: {what: unbook, from_attempt: 2}, retry: {attempts: 2, delay: 1m}}",
        )
        + do("ship", fail="true"),
        rest="on_failure:\n  - {id: rest, action: delay, with: {for: 1h}}\n" + do("tell"),
    )
    assert outcome(run)["book.undo"] == "pending"
    time_passes(61)
    assert (state(run), done()) == ("waiting", ["book", "unbook"])
    time_passes(3601)
    assert (state(run), done()) == ("failed", ["book", "unbook", "tell"])


def test_a_loop_that_its_run_broke_off_is_taken_back_too_and_in_its_turn() -> None:
    (run,) = start(
        workflow(
            do("first", "needs: [], undo: {action: test.do, with: {what: undo first}}")
            + "  - {id: each, needs: [first], for_each: [a, b, c], parallel: 2, action: delay,"
            ' with: {for: "${{ index * 60 + 10 }}m"},\n'
            '     undo: {action: test.do, with: {what: "undo ${{ item }}"}}}\n'
            "  - {id: sleep, needs: [], action: delay, with: {for: 30m}}\n" + do("bad", "needs: [sleep]", fail="true")
        ),
        {},
    )
    drain()
    time_passes(601)
    assert outcome(run)["each[0]"] == "succeeded"
    time_passes(1201)
    run.refresh_from_db()
    assert (run.state, done()) == ("failed", ["first", "undo a", "undo first"])
    assert (run.steps["each"]["state"], run.steps["each"]["done"]) == ("cancelled", [0])


def test_a_retried_run_does_the_items_that_were_broken_off() -> None:
    (run,) = start(
        workflow(
            '  - {id: each, needs: [], for_each: [0, 1], action: delay, with: {for: "${{ index * 60 + 1 }}m"}}\n'
            "  - {id: sleep, needs: [], action: delay, with: {for: 30m}}\n"
            + do("bad", "needs: [sleep]", fail="'${{ run.uid != event.heal }}'")
        ),
        {"heal": ""},
    )
    drain()
    time_passes(61)
    time_passes(1801)
    assert outcome(run) == {"each[0]": "succeeded", "each[1]": "cancelled", "sleep": "succeeded", "bad": "failed"}
    Run.objects.update(input={"heal": str(run.pk)})
    engine.retry(run.pk)
    drain()
    assert state(run) == "waiting"
    time_passes(3661)
    assert state(run) == "succeeded"
    again = StepRun.objects.filter(run=run, round=1).order_by("position", "item")
    assert list(again.values_list("step", "item", "state")) == [("each", 1, "succeeded"), ("bad", None, "succeeded")]


def test_what_could_not_be_taken_back_is_not_done_twice() -> None:
    run = run_of(
        do("book", "undo: {action: test.do, with: {what: unbook, fail: true}}")
        + do("pay", "undo: {action: test.do, with: {what: refund}}")
        + do("ship", fail="'${{ run.uid != event.heal }}'"),
        {"heal": ""},
    )
    assert (run.state, done()) == ("failed", ["book", "pay", "refund"])
    Record.objects.filter(key="pay").delete()
    Run.objects.update(input={"heal": str(run.pk)})
    engine.retry(run.pk)
    drain()
    assert (state(run), done()) == ("succeeded", ["book", "refund", "pay", "ship"])


def test_a_retried_run_goes_in_order_through_what_was_taken_back() -> None:
    """A later step that was not taken back does not let those after it begin before their turn."""
    run = run_of(
        "  - {id: sleep, action: delay, with: {for: 1h}, undo: {action: test.do, with: {what: wake}}}\n"
        + do("note")
        + do("ship", fail="'${{ run.uid != event.heal }}'"),
        {"heal": ""},
    )
    time_passes(3601)
    assert done() == ["note", "wake"]
    Run.objects.update(input={"heal": str(run.pk)})
    engine.retry(run.pk)
    drain()
    assert (state(run), done()) == ("waiting", ["note", "wake"])
    time_passes(3601)
    assert (state(run), done()) == ("succeeded", ["note", "wake", "ship"])


def test_a_child_is_cancelled_when_the_step_that_waits_for_it_has_waited_too_long() -> None:
    workflow("  - {id: sleep, action: delay, with: {for: 2h}}", name="long")
    run = run_of("  - {id: child, action: workflow.run, with: {workflow: long}, timeout: 1h, on_error: continue}\n")
    time_passes(3601)
    assert state(run) == "succeeded"
    assert Run.objects.get(parent=run.pk).state == "cancelled"
