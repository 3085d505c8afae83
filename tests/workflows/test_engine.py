"""The engine: steps in order, exactly once, together or alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.workflows.runs import drain, outcome, start, time_passes, workflow
from workflows import engine
from workflows.actions import Action, Call, StepError, action
from workflows.models import Record, Run, RunState, StepRun
from workflows.publishing import publish

pytestmark = pytest.mark.django_db(transaction=True)

tries: list[int] = []


@action("test.mark")
class Mark(Action):
    """Insert a record, then fail as told: the record is gone with the failure."""

    key: str
    explode: Any = False
    permanent: bool = False
    until_attempt: int = 0

    def run(self, call: Call) -> Any:
        Record.objects.create(collection="marks", key=self.key, value={"attempt": call.attempt, "uid": str(call.uid)})
        tries.append(call.attempt)
        if self.explode == "database":
            Record.objects.create(collection="marks", key=self.key, value=1)
        if self.explode or call.attempt < self.until_attempt:
            raise StepError("it went off", permanent=self.permanent)
        return {"attempt": call.attempt}


@action("test.sleep")
class Sleep(Action):
    seconds: float

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(%s)", [calls[0][0].seconds])
        return [None for _ in calls]


def marks() -> set[str]:
    return set(Record.objects.filter(collection="marks").values_list("key", flat=True))


def test_steps_run_in_order_and_see_what_went_before() -> None:
    w = workflow("""
  - {id: one, action: transform, with: {values: {n: "${{ event.n }}"}}}
  - {id: two, action: transform, with: {values: {text: "n is ${{ steps.one.output.n }}"}}}
""")
    (run,) = start(w, {"n": 7})
    drain()
    run.refresh_from_db()
    assert run.state == RunState.SUCCEEDED
    assert run.due_at is None
    assert run.finished_at is not None
    assert run.steps["two"]["output"] == {"text": "n is 7"}
    assert [row.step for row in StepRun.objects.filter(run=run)] == ["one", "two"]


def test_a_run_started_at_once_is_done_when_it_is_stored() -> None:
    w = workflow("  - {id: one, action: test.mark, with: {key: a}}")
    (run,) = start(w, {}, at_once=True)
    run.refresh_from_db()
    assert (run.state, run.due_at) == (RunState.SUCCEEDED, None)
    assert marks() == {"a"}


def test_a_step_whose_condition_is_false_is_skipped_with_the_reason() -> None:
    w = workflow("""
  - {id: no, if: event.n > 10, action: fail, with: {message: never}}
  - {id: missing, if: event.nothing == 1, action: fail, with: {message: never}}
""")
    (run,) = start(w, {"n": 7})
    drain()
    assert outcome(run) == {"no": "skipped", "missing": "skipped"}
    reasons = {row.step: row.output["reason"] for row in StepRun.objects.filter(run=run)}
    assert reasons == {"no": "event.n > 10 is false (event.n = 7)", "missing": "no such key: nothing"}


def test_one_bad_run_fails_alone_and_leaves_no_trace_of_its_effect() -> None:
    w = workflow("""
  - {id: mark, action: test.mark, with: {key: "${{ event.key }}", explode: "${{ event.explode }}"}}
  - {id: after, action: transform, with: {values: 1}}
""")
    runs = start(w, *({"key": f"k{n}", "explode": n == 3} for n in range(8)))
    drain()
    states = [Run.objects.get(pk=run.pk).state for run in runs]
    assert states == ["succeeded"] * 3 + ["failed"] + ["succeeded"] * 4
    assert marks() == {f"k{n}" for n in range(8) if n != 3}
    bad = Run.objects.get(pk=runs[3].pk)
    assert bad.error == "mark: it went off"
    assert outcome(bad) == {"mark": "failed"}


def test_a_constraint_violation_fails_its_run_only() -> None:
    w = workflow('  - {id: mark, action: test.mark, with: {key: "${{ event.key }}", explode: "${{ event.explode }}"}}')
    good, bad = start(w, {"key": "good", "explode": False}, {"key": "bad", "explode": "database"})
    drain()
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.state, bad.state) == ("succeeded", "failed")
    assert "one_record_per_key" in bad.error
    assert marks() == {"good"}


def test_a_value_that_cannot_be_had_fails_the_step_and_names_the_field() -> None:
    w = workflow('  - {id: one, action: transform, with: {values: {a: "${{ event.nope }}"}}}')
    (run,) = start(w, {})
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "nope" in run.error
    assert "values.a" in run.error


def test_a_value_of_the_wrong_type_fails_the_step_and_names_the_field() -> None:
    w = workflow('  - {id: one, action: test.mark, with: {key: "${{ event.key }}"}}')
    (run,) = start(w, {"key": {"not": "a string"}})
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "with.key" in run.error


def test_a_failed_step_is_tried_again_as_its_policy_says() -> None:
    tries.clear()
    w = workflow("  - {id: mark, action: test.mark, with: {key: a, until_attempt: 3}, retry: {attempts: 3, delay: 1h}}")
    (run,) = start(w, {})
    drain()
    run.refresh_from_db()
    assert (run.state, outcome(run)) == ("running", {"mark": "pending"})
    assert run.due_at is not None
    assert timedelta(minutes=55) < run.due_at - timezone.now() < timedelta(minutes=65)
    for _ in range(2):
        time_passes(2 * 3600)
    run.refresh_from_db()
    row = StepRun.objects.get(run=run)
    assert (run.state, row.state, row.attempts, row.error) == ("succeeded", "succeeded", 3, "")
    assert Record.objects.get(key="a").value["uid"] == str(row.uid)
    assert marks() == {"a"}


def test_the_last_attempt_fails_the_run() -> None:
    w = workflow("  - {id: mark, action: test.mark, with: {key: a, explode: true}, retry: {attempts: 2, delay: 1s}}")
    (run,) = start(w, {})
    for _ in range(2):
        time_passes(2 * 3600)
    run.refresh_from_db()
    assert (run.state, run.due_at) == ("failed", None)
    assert StepRun.objects.get(run=run).attempts == 2


def test_a_permanent_failure_is_not_tried_again() -> None:
    w = workflow(
        "  - {id: mark, action: test.mark, with: {key: a, explode: true, permanent: true}, retry: {attempts: 5}}"
    )
    (run,) = start(w, {})
    drain()
    run.refresh_from_db()
    assert (run.state, StepRun.objects.get(run=run).attempts) == ("failed", 1)


def test_on_error_continue_goes_on() -> None:
    w = workflow("""
  - {id: bad, action: fail, with: {message: oh}, on_error: continue}
  - {id: next, action: transform, with: {values: "${{ steps.bad.error }}"}}
""")
    (run,) = start(w, {})
    drain()
    run.refresh_from_db()
    assert (run.state, run.error) == ("succeeded", "")
    assert run.steps["next"]["output"] == "oh"


def test_on_failure_steps_hear_which_step_failed_and_why() -> None:
    w = workflow(
        """
  - {id: bad, action: fail, with: {message: oh}}
  - {id: never, action: test.mark, with: {key: never}}
""",
        rest="""
on_failure:
  - {id: tell, action: transform, with: {values: "${{ failure.step }}: ${{ failure.error }}"}}
""",
    )
    (run,) = start(w, {})
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert outcome(run) == {"bad": "failed", "tell": "succeeded"}
    assert run.steps["tell"]["output"] == "bad: bad: oh"
    assert marks() == set()


def test_a_run_past_its_time_is_failed_and_its_on_failure_steps_run() -> None:
    w = workflow(
        "  - {id: mark, action: test.mark, with: {key: a, until_attempt: 9}, retry: {attempts: 9, delay: 1m}}",
        rest="timeout: 2h\non_failure:\n  - {id: tell, action: transform, with: {values: 1}}",
    )
    (run,) = start(w, {})
    drain()
    past = timezone.now() - timedelta(hours=3)
    Run.objects.update(started_at=past, due_at=past)
    drain()
    run.refresh_from_db()
    assert (run.state, run.error) == ("failed", "timed out after 2h")
    assert outcome(run)["tell"] == "succeeded"


def test_a_step_past_its_time_is_stopped() -> None:
    w = workflow("  - {id: slow, action: test.sleep, with: {seconds: 20}, timeout: 1s}")
    (run,) = start(w, {})
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "statement timeout" in run.error


def test_a_run_keeps_the_version_it_started_with() -> None:
    w = workflow("  - {id: one, action: transform, with: {values: old}}")
    (run,) = start(w, {})
    newer = workflow("  - {id: one, action: transform, with: {values: new}}")
    (later,) = start(newer, {})
    drain()
    run.refresh_from_db()
    later.refresh_from_db()
    assert (run.steps["one"]["output"], later.steps["one"]["output"]) == ("old", "new")


def test_a_run_that_cannot_be_recorded_fails_by_itself() -> None:
    """PostgreSQL stores no NUL in JSON: such an output fails its run, and does not keep it due for ever."""
    w = workflow("  - {id: one, action: transform, with: {values: \"${{ event.text + '\\\\u0000' }}\"}}")
    bad, good = start(w, {"text": "a"}, {"text": "b"})
    Run.objects.filter(pk=good.pk).update(
        version=publish("name: x\nsteps: [{id: a, action: transform, with: {values: 1}}]")[0]
    )
    drain()
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.state, bad.due_at) == ("failed", None)
    assert good.state == "succeeded"


def test_a_batch_costs_a_handful_of_statements() -> None:
    w = workflow("""
  - {id: one, action: transform, with: {values: "${{ event.n }}"}}
  - {id: put, action: record.put, with: {collection: c, key: "${{ string(event.n) }}", value: 1}}
""")
    start(w, *({"n": n} for n in range(50)))
    engine.advance()  # fills the caches
    start(w, *({"n": n} for n in range(100, 150)))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert engine.advance() == {"runs": 50, "steps": 100}
    assert len(queries) <= 12, [query["sql"][:80] for query in queries]
    assert Record.objects.filter(collection="c").count() == 100
