"""Runs that have come to an outside step: the engine has handed it over, and it is due for a performer."""

from __future__ import annotations

from typing import Any

from tests.workflows.foreign import actions as foreign  # noqa: F401  registers them
from tests.workflows.runs import drain, start
from workflows import work
from workflows.models import StepRun
from workflows.publishing import load, publish


def due_step(action: str, with_: dict[str, Any], *, event: dict[str, Any] | None = None, **step: Any) -> StepRun:
    """The step `it` of a new run of a workflow with that one step."""
    return due_steps(action, with_, [event or {}], **step)[0]


def due_steps(action: str, with_: dict[str, Any], events: list[dict[str, Any]], **step: Any) -> list[StepRun]:
    """The same for a run of each of these events."""
    work._plan.cache_clear()
    load.cache_clear()  # a test before may have used another database, with the same numbers
    version, _ = publish({"steps": [{"id": "it", "action": action, "with": with_, **step}]}, name="w")
    runs = start(version, *events)
    drain()
    rows = {row.run_id: row for row in StepRun.objects.filter(run__in=runs)}
    return [rows[run.pk] for run in runs]
