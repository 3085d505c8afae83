"""Claim, perform, record: leases, fences, retries and what foreign code may do, in this process."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from tests.workflows.outside import due_step, due_steps
from tests.workflows.runs import drain, outcome, start, workflow
from workflows import answers, code, engine, performing
from workflows.actions import StepError, Wait
from workflows.actions.http import Busy
from workflows.models import Lane, Run, StepRun, StepState
from workflows.performing import Job, claim, failed, record, returned
from workflows.waits import Answer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "attempts"


def work(file: Path, how: str = "well", **step: Any) -> StepRun:
    return due_step("test.work", {"file": str(file), "how": how}, **step)


def claim_one(lane: str = Lane.CODE) -> Job:
    (job,) = claim(lane, 10).jobs
    return job


def lose_lease(step: StepRun) -> None:
    StepRun.objects.filter(pk=step.pk).update(due_at=timezone.now() - timedelta(seconds=1))


def attempts(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_step_is_leased_for_its_time_limit_performed_and_recorded(file: Path) -> None:
    step = work(file, timeout="40s")
    job = claim_one()
    step.refresh_from_db()
    assert (step.state, step.attempts) == (StepState.RUNNING, 1)
    assert step.due_at is not None
    assert 45 < (step.due_at - timezone.now()).total_seconds() <= 40 + performing.LEASE_MARGIN
    assert not claim(Lane.CODE, 10).jobs, "it is taken"
    assert job.call.key == f"{step.run_id}/it"
    record([returned(job, {"x": 1})])
    step.refresh_from_db()
    run = Run.objects.get()
    assert step.output == {"x": 1}
    assert str(step.state) == "succeeded"
    assert step.finished_at is not None
    assert run.due_at is not None, "the engine has to note it"
    assert run.due_at <= timezone.now()


def test_code_is_performed_with_what_the_step_says(file: Path) -> None:
    step = work(file)
    assert code.perform_one(fatal=False) == {"steps": 1}
    step.refresh_from_db()
    assert (step.state, step.output) == ("succeeded", {"attempt": 1, "n": None})
    assert file.read_text() == f"{step.run_id}/it 1\n"
    assert code.perform_one(fatal=False) == {}


@pytest.mark.parametrize(
    ("how", "state", "told"),
    [
        ("refuses", "failed", "no money"),
        ("breaks", "pending", "RuntimeError: out\ufffdof order"),
        ("exits", "pending", "SystemExit: 3"),
        ("returns no JSON", "failed", "its output is not JSON: Integer exceeds 64-bit range"),
    ],
)
def test_what_foreign_code_does_is_an_outcome(file: Path, how: str, state: str, told: str) -> None:
    step = work(file, how)
    code.perform_one(fatal=False)
    step.refresh_from_db()
    assert (step.state, step.error) == (state, told)
    assert (Run.objects.get().due_at is None) == (state == "pending"), "the run is woken by an end only"


def test_zeros_are_stored_as_what_postgresql_can_store(file: Path) -> None:
    step = work(file, "returns zeros")
    code.perform_one(fatal=False)
    step.refresh_from_db()
    assert step.output == {"text": "a\ufffdb", "path": "C:\\u0000"}


def test_a_failed_attempt_is_tried_again_until_the_attempts_are_used_up(file: Path) -> None:
    step = work(file, "breaks", retry={"attempts": 3, "delay": "1m"})
    for attempt in (1, 2):
        code.perform_one(fatal=False)
        step.refresh_from_db()
        assert (step.state, step.attempts) == ("pending", attempt)
        assert step.due_at is not None
        assert 50 < (step.due_at - timezone.now()).total_seconds() <= 60 * attempt
        assert code.perform_one(fatal=False) == {}
        lose_lease(step)
    code.perform_one(fatal=False)
    step.refresh_from_db()
    assert (step.state, step.attempts, step.due_at) == ("failed", 3, None)
    assert attempts(file) == 3
    assert {line.split()[0] for line in file.read_text().splitlines()} == {f"{step.run_id}/it"}, "the key stays"


def test_a_lease_that_ran_out_is_another_attempt_and_on_the_last_one_the_end(file: Path) -> None:
    step = work(file, timeout="7s")
    claim_one()
    lose_lease(step)
    assert claim_one().attempt == 2
    lose_lease(step)
    claimed = claim(Lane.CODE, 10)
    assert not claimed.jobs
    record(claimed.over)
    step.refresh_from_db()
    assert (step.state, step.attempts) == ("failed", 2)
    assert step.error == "the process died during attempt 2 of 2, or took longer than 7s"


def test_who_lost_the_lease_records_nothing(file: Path) -> None:
    step = work(file)
    late = claim_one()
    lose_lease(step)
    successor = claim_one()
    record([returned(late, "late")])
    step.refresh_from_db()
    assert (step.state, step.output) == ("running", None)
    record([returned(successor, "in time")])
    record([returned(late, "late")])
    step.refresh_from_db()
    assert (step.state, step.output) == ("succeeded", "in time")


def test_a_step_of_a_run_that_has_ended_is_not_begun_and_not_recorded(file: Path) -> None:
    step = work(file)
    job = claim_one()
    Run.objects.update(state="cancelled")
    record([returned(job, 1)])
    step.refresh_from_db()
    assert (step.state, step.due_at) == ("cancelled", None)
    assert Run.objects.get().due_at is None
    StepRun.objects.update(state="pending", due_at=timezone.now())
    assert not claim(Lane.CODE, 10).jobs
    step.refresh_from_db()
    assert (step.state, step.due_at) == ("cancelled", None)


def test_a_step_whose_run_somebody_deleted_is_cancelled_and_in_nobodys_way(file: Path) -> None:
    step = work(file)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM workflows_run")
    assert not claim(Lane.CODE, 1).jobs
    step.refresh_from_db()
    assert (step.state, step.due_at) == ("cancelled", None)


def test_an_action_that_is_gone_fails_the_step_with_that_reason(file: Path) -> None:
    step = work(file)
    StepRun.objects.update(input={"file": 5, "x": 1})
    code.perform_one(fatal=False)
    step.refresh_from_db()
    assert step.state == "failed"
    assert "with.file: should be text" in step.error
    assert 'unknown field "x"' in step.error


def test_a_step_that_waits_is_the_engines_and_ends_by_its_answer(file: Path) -> None:
    step = work(file)
    until = timezone.now() + timedelta(hours=1)
    record([returned(claim_one(), Wait(until=until, output={"asked": True}))])
    step.refresh_from_db()
    assert (step.state, step.lane, step.due_at, step.output) == ("waiting", "", until, {"asked": True})
    assert Run.objects.get().due_at is not None
    assert answers.answer(step.pk, Answer(output=42))
    step.refresh_from_db()
    assert (step.state, step.output, step.due_at) == ("succeeded", 42, None)
    assert not answers.answer(step.pk, Answer(output=43))


@pytest.mark.parametrize(("error", "state"), [("", "succeeded"), ("it failed", "failed")])
def test_an_answer_that_comes_before_the_wait_is_recorded_counts(file: Path, error: str, state: str) -> None:
    step = work(file)
    job = claim_one()
    assert answers.answer(step.pk, Answer(output={"n": 1}, error=error))
    record([failed(job, StepError("the line went dead after the request"))])
    record([returned(claim_one(), Wait(until=timezone.now() + timedelta(hours=1)))])
    step.refresh_from_db()
    assert (step.state, step.output, step.error, step.due_at) == (state, {"n": 1}, error, None)


def test_many_outcomes_are_a_handful_of_statements(file: Path, django_assert_max_num_queries: Any) -> None:
    due_steps("test.work", {"file": str(file)}, [{}] * 100)
    with django_assert_max_num_queries(8):
        jobs = claim(Lane.CODE, 100).jobs
    assert len(jobs) == 100
    with django_assert_max_num_queries(7):
        record([returned(job, {"n": n}) for n, job in enumerate(jobs)])
    assert StepRun.objects.filter(state="succeeded").count() == 100
    assert Run.objects.filter(due_at__isnull=False).count() == 100


def test_retry_after_is_obeyed_when_it_is_longer(file: Path) -> None:
    work(file)
    job = claim_one()
    assert failed(job, Busy("later", retry_after=timedelta(minutes=5))).delay == timedelta(minutes=5)


def test_the_claim_takes_turns_between_far_sides_and_uses_the_index(file: Path) -> None:
    events = [{"url": f"http://slow.example/{n}"} for n in range(30)]
    events += [{"url": f"http://Fast.example:81/{n}"} for n in range(3)]
    due_steps("http.request", {"url": "${{ event.url }}"}, events)
    StepRun.objects.filter(input__url__contains="slow").update(due_at=F("due_at") - timedelta(seconds=5))
    jobs = claim(Lane.NETWORK, 20, rooms={}, room=10).jobs
    assert sorted(job.side for job in jobs) == ["fast.example:81"] * 3 + ["slow.example"] * 10
    assert not claim(Lane.NETWORK, 20, rooms={"slow.example": 0}, room=10).jobs
    assert len(claim(Lane.NETWORK, 20, rooms={"slow.example": 4}, room=10).jobs) == 4
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("EXPLAIN SELECT min(due_at) FROM workflows_steprun WHERE lane = 'network' AND due_at <= now()")
        plan = str(cursor.fetchall())
        cursor.execute("RESET enable_seqscan")
    assert "step_run_due_by_lane" in plan


SIDE_BY_SIDE = """
  - {{id: a, needs: [], action: test.work, with: {{file: {file}}}}}
  - id: b
    needs: []
    action: test.work
    with: {{file: {file}}}
    undo: {{action: transform, with: {{values: undone}}}}
  - {{id: c, needs: [], action: test.work, with: {{file: {file}}}}}
"""


def side_by_side(file: Path) -> tuple[Run, dict[str, Job]]:
    """A run with two steps in hand, a and b, and one, c, that nobody has claimed."""
    (run,) = start(workflow(SIDE_BY_SIDE.format(file=file)), {})
    drain()
    jobs = {job.call.step: job for job in claim(Lane.CODE, 2).jobs}
    assert jobs.keys() == {"a", "b"}
    return run, jobs


def test_a_run_that_fails_takes_back_what_nobody_has_begun_and_waits_for_what_is_under_way(file: Path) -> None:
    run, jobs = side_by_side(file)
    record([failed(jobs["a"], StepError("no", permanent=True))])
    drain()
    run.refresh_from_db()
    assert (run.state, run.error) == ("running", "a: no")
    assert outcome(run) == {"a": "failed", "b": "running", "c": "cancelled"}
    record([returned(jobs["b"], "done")])
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert outcome(run) == {"a": "failed", "b": "succeeded", "b.undo": "succeeded", "c": "cancelled"}


def test_a_run_that_fails_does_not_try_again_what_fails_besides(file: Path) -> None:
    run, jobs = side_by_side(file)
    record([failed(jobs["a"], StepError("no", permanent=True))])
    drain()
    record([failed(jobs["b"], StepError("not now"))])
    drain()
    run.refresh_from_db()
    assert (run.state, run.due_at) == ("failed", None)
    assert outcome(run) == {"a": "failed", "b": "cancelled", "c": "cancelled"}


def test_a_cancelled_run_drops_what_its_steps_bring(file: Path) -> None:
    run, jobs = side_by_side(file)
    assert engine.cancel(Run.objects.filter(pk=run.pk), reason="enough") == 1
    record([returned(jobs["a"], "done"), failed(jobs["b"], StepError("not now"))])
    drain()
    assert outcome(run) == {"a": "cancelled", "b": "cancelled", "c": "cancelled"}
    assert not claim(Lane.CODE, 10).jobs
