"""The Celery tasks of the workflows app."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from celery import shared_task
from celery.exceptions import Reject
from celery.signals import worker_process_init
from django.db import InterfaceError, OperationalError, connection, transaction

from project.stage import Counts, stage
from workflows import answers, code, engine, gates
from workflows.actions.base import Json
from workflows.models import Gate, Lane, Run, StepRun
from workflows.performer import SLOTS, performer
from workflows.waits import Answer

GATES = 1000


@stage("workflows.advance", rows=lambda: Run.objects.all(), batch=engine.BATCH)
def advance() -> Counts:
    return engine.advance()


@stage("workflows.close", rows=lambda: Gate.objects.all(), batch=GATES)
def close() -> Counts:
    """Remove the gates that nobody needs any more."""
    with transaction.atomic():
        removed = gates.remove_unneeded(GATES)
    return {"gates": removed} if removed else {}


@stage("workflows.request", rows=lambda: StepRun.objects.filter(lane=Lane.NETWORK), batch=SLOTS)
def request() -> Counts:
    return performer().drain()


# Each step has its own time limit, and a process that it cannot be stopped in ends itself.
@stage("workflows.perform", rows=lambda: StepRun.objects.filter(lane=Lane.CODE), own_limits=True)
def perform() -> Counts:
    return code.drain()


@worker_process_init.connect
def _in_a_child(**kwargs: Any) -> None:
    code.expendable = True


@shared_task(name="workflows.answered", acks_late=True, reject_on_worker_lost=True)
def answered(result: Json, step: str) -> str:
    """What a task that a step called has returned (actions/task.py)."""
    return _answer(step, Answer(output=result))


@shared_task(name="workflows.not_answered", acks_late=True, reject_on_worker_lost=True)
def not_answered(task_id: str, step: str, task: str) -> str:
    """A task that a step called has failed. Its worker tells no more than its id."""
    return _answer(step, Answer(error=f"{task} failed; the log of its worker says why (task id {task_id})"))


def _answer(step: str, given: Answer) -> str:
    # Unlike a bell, this message is the only copy: it is acknowledged when the answer is stored.
    try:
        return "taken" if answers.answer(UUID(step), given) else "nobody waits for it"
    except (OperationalError, InterfaceError) as error:
        connection.close()
        time.sleep(1)  # or it would come back at once, as long as PostgreSQL is away
        raise Reject(error, requeue=True) from error
