"""What runs did, as JSON: each run with its steps, and each step with what it sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from notifications.story import deliveries_of
from project.timestamps import time_of
from workflows.models import Run, StepRun


def tell(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """These runs, in their order. Three queries beside their workflows and versions, however many there are."""
    steps: dict[UUID, list[StepRun]] = defaultdict(list)
    for step in StepRun.objects.filter(run__in=runs).order_by("position"):
        steps[step.run_id].append(step)
    deliveries = deliveries_of(step.uid for of_run in steps.values() for step in of_run)
    return [_run(run, steps[run.uid], deliveries) for run in runs]


def _run(run: Run, steps: Iterable[StepRun], deliveries: dict[UUID, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "uid": str(run.uid),
        "workflow": run.workflow.name,
        "version": run.version.number,
        "subscription": run.trigger,
        "state": run.state,
        "error": run.error or None,
        "due_at": time_of(run.due_at),
        "started_at": time_of(run.started_at),
        "finished_at": time_of(run.finished_at),
        "steps": [_step(step, deliveries.get(step.uid)) for step in steps],
    }


def _step(step: StepRun, deliveries: list[dict[str, Any]] | None) -> dict[str, Any]:
    told = {
        "uid": str(step.uid),
        "id": step.step,
        "action": step.action,
        "state": step.state,
        "attempts": step.attempts,
        "started_at": time_of(step.started_at),
        "finished_at": time_of(step.finished_at),
        "input": step.input,
        "output": step.output,
        "error": step.error or None,
    }
    return told if deliveries is None else {**told, "deliveries": deliveries}
