"""`task.call`: a foreign Celery worker, which shares the broker only, does the work, and its answer ends the step."""

from __future__ import annotations

from typing import Any

import pytest

from tests.live import Live, wait_until
from tests.workflows.outside import billing, due_step
from tests.workflows.runs import drain, outcome, time_passes
from workflows import answers, code
from workflows.actions.task import objection
from workflows.definition import DefinitionError, parse
from workflows.models import StepRun
from workflows.waits import Answer


def definition(task: str) -> str:
    return f"name: w\nsteps:\n  - {{id: it, action: task.call, with: {{task: {task}, queue: billing}}}}"


@pytest.mark.django_db
def test_only_allowed_tasks_can_be_named(settings: Any) -> None:
    settings.WORKFLOW_TASKS = []
    with pytest.raises(
        DefinitionError, match=r"line 3: .*billing.charge must not be called; WORKFLOW_TASKS allows: none"
    ):
        parse(definition("billing.charge"))
    settings.WORKFLOW_TASKS = ["billing.*", "mail.send"]
    parse(definition("billing.charge"))
    with pytest.raises(
        DefinitionError, match=r"mail.delete must not be called; WORKFLOW_TASKS allows: billing\.\*, mail"
    ):
        parse(definition("mail.delete"))
    settings.WORKFLOW_TASKS = ["*"]
    for own in ("workflows.advance", "workflows.answered", "celery.backend_cleanup"):
        assert objection(own) == f"{own} is Carillon's own"


@pytest.mark.django_db(transaction=True)
def test_an_answer_that_does_not_come_in_time_fails_the_step() -> None:
    step = call(args=["ada"], timeout="2h")
    assert code.perform_one(fatal=False) == {"steps": 1}
    drain()
    run = step.run
    run.refresh_from_db()
    assert (run.state, run.due_at is None) == ("waiting", False), "the engine looks again when the time is over"
    time_passes(7190)
    assert outcome(run) == {"it": "waiting"}
    time_passes(20)
    run.refresh_from_db()
    assert (run.state, run.error) == ("failed", "it: billing.charge has not answered within 2h")
    assert not answers.answer(step.pk, Answer(output="late"))


def call(**with_: Any) -> StepRun:
    return due_step("task.call", {"task": "billing.charge", "queue": "billing", **with_})


def ended(step: StepRun, *, seconds: float = 60) -> StepRun:
    def done() -> bool:
        step.refresh_from_db()
        return step.finished_at is not None

    wait_until(done, seconds=seconds, what="the end of the step")
    return step


@pytest.mark.flow
def test_the_result_or_the_failure_of_a_foreign_task_ends_the_step(live: Live) -> None:
    live.start("worker", "performer", "clock")
    with billing(live):
        well = call(args=["ada"], kwargs={"amount": 12.5})
        slow = call(args=["bob"], kwargs={"seconds": 1.0})
        bad = call(kwargs={"customer": "eve", "amount": -1})
        sent = call(args=["dan"], wait=False)
        key = f"{well.run_id}/it"
        assert ended(well).output == {"customer": "ada", "charged": 12.5, "id": key}
        assert ended(slow).state == "succeeded"
        assert ended(bad).state == "failed"
        assert bad.error == f"billing.charge failed; the log of its worker says why (task id {bad.run_id}/it)"
        assert ended(sent).output == {"task_id": f"{sent.run_id}/it"}
    assert {step.attempts for step in StepRun.objects.all()} == {1}


@pytest.mark.flow
def test_nobody_serves_the_queue_and_the_step_waits_with_a_deadline(live: Live) -> None:
    live.start("worker", "performer", "clock")
    step = call(args=["ada"], timeout="2h")

    def waits() -> bool:
        step.refresh_from_db()
        return step.state == "waiting"

    wait_until(waits, seconds=60, what="the step to wait")
    assert step.lane == ""
    assert step.due_at is not None
    with billing(live):  # it comes later, and finds the message
        assert ended(step).state == "succeeded"
