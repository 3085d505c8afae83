"""The whole story of an event: who was asked and why, which runs it started, what their steps did, who was told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from events.models import Event
from notifications.models import Attempt, Delivery
from workflows.models import Run, StepRun


def trace(event: Event) -> dict[str, Any]:
    """The trace as JSON (docs/reference/api.md). Five queries, however long the story."""
    runs = list(Run.objects.filter(origin=event.uid).select_related("workflow", "version").order_by("uid"))
    steps = _by(StepRun.objects.filter(run__in=runs).order_by("position"), lambda step: step.run_id)
    deliveries = _deliveries(step.uid for of_run in steps.values() for step in of_run)
    return {
        "event": event.envelope(),
        "received_at": time_of(event.received_at),
        "routed_at": time_of(event.routed_at),
        "error": event.error or None,
        "subscriptions": event.verdicts,
        "runs": [_run(run, steps[run.uid], deliveries) for run in runs],
    }


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


def _deliveries(origins: Iterable[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """What each of these steps sent, by the step's uid; a delivery by a fallback channel stands with the others."""
    rows = list(Delivery.objects.filter(origin__in=list(origins)).select_related("channel").order_by("uid"))
    attempts = _by(Attempt.objects.filter(delivery__in=rows).order_by("number"), lambda attempt: attempt.delivery_id)
    told: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        told[row.origin].append(
            {
                "uid": str(row.uid),
                "channel": row.channel.name,
                "kind": row.kind,
                "to": row.to,
                "state": row.state,
                "reason": row.reason or None,
                "due_at": time_of(row.due_at),
                "message": row.message,
                "attempts": [
                    {
                        "number": attempt.number,
                        "at": time_of(attempt.at),
                        "outcome": attempt.outcome,
                        "status": attempt.status,
                        "response": attempt.response,
                        "ms": attempt.ms,
                    }
                    for attempt in attempts[row.uid]
                ],
            }
        )
    return dict(told)


def _by(rows: Iterable[Any], key: Any) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def time_of(moment: datetime | None) -> str | None:
    """A time as RFC 3339 in UTC."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None
