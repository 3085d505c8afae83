"""Steps that are due for performers, put there as the engine puts them."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from project.identifiers import new_uid
from tests.workflows.foreign import actions as foreign  # noqa: F401  registers them
from workflows.actions import actions
from workflows.models import Run, StepRun, StepState, WorkflowVersion
from workflows.publishing import publish


def due_step(action: str, with_: dict[str, Any], *, written: dict[str, Any] | None = None, **step: Any) -> StepRun:
    """A due step of a new run of a workflow with that one step. `written`: its `with` before it was rendered."""
    document = {"steps": [{"id": "it", "action": action, "with": written or with_, **step}]}
    version, _ = publish(document, name=f"w-{new_uid().hex}" if written else "w")
    return due_steps(version.pk, [with_])[0]


def due_steps(version: int, inputs: list[dict[str, Any]], **event: Any) -> list[StepRun]:
    """A due step for each of these inputs, in a run of its own, of the first step of the version."""
    row = WorkflowVersion.objects.get(pk=version)
    name = row.definition["steps"][0]["action"]
    now = timezone.now()
    steps = []
    for given in inputs:
        run = Run.objects.create(workflow_id=row.workflow_id, version=row, input=event, state="waiting")
        steps.append(
            StepRun(
                run=run,
                step=row.definition["steps"][0]["id"],
                position=0,
                lane=actions[name].lane,  # type: ignore[attr-defined]
                action=name,
                state=StepState.PENDING,
                input=given,
                due_at=now,
            )
        )
    StepRun.objects.bulk_create(steps)
    return steps
