"""From a step that waits to one that goes on: somebody decided, an event came, a child ended, a task answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from project import bulk
from project.doorbell import ring
from workflows.actions.base import Json
from workflows.models import ACTIVE, Run, StepRun, StepState


@dataclass(frozen=True, slots=True)
class Answer:
    """What a step waited for: its output, or with `error` its failure."""

    output: Json = None
    error: str = ""


def complete(answers: Mapping[UUID, Answer]) -> set[UUID]:
    """End these waiting steps and wake their runs; returns the uids of those that were waiting, each of them once.

    Inside the caller's transaction, if there is one. Whoever asks for a step that is not waiting (it was answered, its
    time is over, its run was cancelled, it has not begun) does nothing.
    """
    if not answers:
        return set()
    with transaction.atomic():
        waiting = StepRun.objects.filter(pk__in=answers, state=StepState.WAITING)
        # Runs before their steps, and both in one order, as everywhere: so nobody waits for each other in a circle.
        runs = (
            Run.objects.filter(pk__in=waiting.values("run"), state__in=ACTIVE)
            .order_by("pk")
            .select_for_update(no_key=True)
        )
        held = list(runs.values_list("pk", flat=True))
        steps = list(waiting.filter(run__in=held).order_by("pk").select_for_update(no_key=True))
        now = timezone.now()
        for step in steps:
            answer = answers[step.pk]
            step.state = StepState.FAILED if answer.error else StepState.SUCCEEDED
            step.output, step.error, step.finished_at, step.due_at = answer.output, answer.error, now, None
        if steps:
            bulk.update(steps, ("state", "output", "error", "finished_at", "due_at"))
            Run.objects.filter(pk__in={step.run_id for step in steps}).update(due_at=Now())
            ring("workflows.advance", by=str(steps[0].run_id))
    return {step.pk for step in steps}
