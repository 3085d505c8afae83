"""What runs did, as JSON: each run with its steps, and each step with what it sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from notifications.story import deliveries_of
from project.timestamps import time_of
from workflows.models import ACTIVE, UNDER_WAY, Run, StepRun, StepState

MOST: Final = 200
"""Children that a story tells of; the list of runs, by their parent, has them all."""


def tell(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """These runs, in their order, and in their steps the runs that they started.

    Three queries beside their workflows and versions, however many there are, and one for each generation of children.
    """
    children = _children(runs)
    family = [*runs, *(child for started in children.values() for child in started)]
    steps: dict[UUID, list[StepRun]] = defaultdict(list)
    for step in StepRun.objects.filter(run__in=family).order_by("round", "position", "item"):
        steps[step.run_id].append(step)
    deliveries = deliveries_of(step.uid for of_run in steps.values() for step in of_run)

    def tell_run(run: Run) -> dict[str, Any]:
        return {**summary(run), "steps": [tell_step(step) for step in steps[run.uid]]}

    def tell_step(step: StepRun) -> dict[str, Any]:
        told = _step(step)
        if step.uid in deliveries:
            told["deliveries"] = deliveries[step.uid]
        if step.uid in children:
            told["runs"] = [tell_run(child) for child in children[step.uid]]
        return told

    return [tell_run(run) for run in runs]


def summary(run: Run) -> dict[str, Any]:
    """A run without its steps."""
    return {
        "uid": str(run.uid),
        "workflow": run.workflow.name,
        "version": run.version.number,
        "subscription": run.trigger,
        "replay": run.replay,
        "origin": str(run.origin) if run.origin else None,
        "parent": str(run.parent) if run.parent else None,
        "state": run.state,
        "queued": run.queued and run.state in ACTIVE,
        "round": run.round,
        "error": run.error or None,
        "due_at": time_of(run.due_at),
        "started_at": time_of(run.started_at),
        "finished_at": time_of(run.finished_at),
    }


def awaited(run: dict[str, Any], now: datetime) -> Iterator[datetime | None]:
    """When what is under way in the run as it was told goes on, a time for each thing; None: nobody can say."""
    if run["state"] in ACTIVE:
        yield _moment(run["due_at"])
    for step in run["steps"]:
        if step["state"] in UNDER_WAY:
            yield now if step["state"] == StepState.RUNNING else _moment(step["due_at"])
        yield from (_moment(each["due_at"]) for each in step.get("deliveries", ()) if each["state"] == "pending")
        for child in step.get("runs", ()):
            yield from awaited(child, now)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _children(runs: Sequence[Run]) -> dict[UUID, list[Run]]:
    """The runs that these started, and those that they started, by the step that did; the oldest MOST of them."""
    found: dict[UUID, list[Run]] = defaultdict(list)
    left, parents = MOST, [run.uid for run in runs]
    while parents and left:
        born = Run.objects.filter(parent__in=parents).select_related("workflow", "version").order_by("uid")
        generation = list(born.defer("input", "steps", "version__source", "version__definition")[:left])
        for run in generation:
            if run.origin:
                found[run.origin].append(run)
        left, parents = left - len(generation), [run.uid for run in generation]
    return dict(found)


def _step(step: StepRun) -> dict[str, Any]:
    return {
        "uid": str(step.uid),
        "id": step.step,
        "item": step.item,
        "round": step.round,
        "action": step.action,
        "state": step.state,
        "attempts": step.attempts,
        "due_at": time_of(step.due_at),
        "started_at": time_of(step.started_at),
        "turns": step.turns or [],
        "finished_at": time_of(step.finished_at),
        "input": step.input,
        "output": None if step.state == StepState.WAITING else step.output,  # what it will be if nothing comes
        "error": step.error or None,
    }
