"""Starting workflows in a test, and going on with them as the workers would."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from workflows import engine
from workflows.models import Gate, Run, StepRun, WorkflowVersion
from workflows.publishing import publish
from workflows.work import Start


def workflow(steps: str, name: str = "w", rest: str = "") -> WorkflowVersion:
    return publish(f"name: {name}\nsteps:\n{steps}\n{rest}")[0]


def start(version: WorkflowVersion, *inputs: dict[str, Any], at_once: bool = False) -> list[Run]:
    with transaction.atomic():
        return engine.start([Start(version.workflow_id, version.pk, given) for given in inputs], at_once=at_once)


def drain() -> None:
    while engine.advance():
        pass


def time_passes(seconds: float) -> None:
    """As if everything had happened that much earlier; then what is due is done."""
    move_back(seconds)
    drain()


def move_back(seconds: float) -> None:
    """Everything happened that much earlier."""
    by = timedelta(seconds=seconds)
    for model in (Run, StepRun, Gate):
        model.objects.filter(due_at__isnull=False).update(due_at=F("due_at") - by)
    for gate in Gate.objects.all():
        gate.value = _earlier(gate.value, by)
        gate.save()
    for step in StepRun.objects.filter(output__has_key="at"):
        step.output = _earlier(step.output, by)
        step.save(update_fields=["output"])
    StepRun.objects.update(started_at=F("started_at") - by)
    Run.objects.update(started_at=F("started_at") - by)


def _earlier(value: Any, by: timedelta) -> Any:
    if isinstance(value, dict):
        return {name: _earlier(each, by) for name, each in value.items()}
    if isinstance(value, list):
        return [_earlier(each, by) for each in value]
    try:
        return (datetime.fromisoformat(value) - by).isoformat()
    except (TypeError, ValueError):
        return value


def outcome(run: Run) -> dict[str, str]:
    """The states of the run's steps; an item of a loop is called `step[0]`."""
    rows = StepRun.objects.filter(run=run)
    return {row.step if row.item is None else f"{row.step}[{row.item}]": row.state for row in rows}


def state(run: Run) -> str:
    return Run.objects.get(pk=run.pk).state
