"""What became of messages, as JSON: each delivery with its attempts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, cast
from uuid import UUID

from notifications.models import Attempt, Delivery, Recovery
from project.timestamps import time_of


def deliveries_of(origins: Iterable[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """What each of these steps sent, by the step's uid; a delivery by a fallback channel stands with the others."""
    told: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    rows = list(Delivery.objects.filter(origin__in=list(origins)).select_related("channel").order_by("uid"))
    for row, story in zip(rows, tell(rows), strict=True):
        told[cast(UUID, row.origin)].append(story)
    return dict(told)


def tell(rows: Sequence[Delivery]) -> list[dict[str, Any]]:
    """These deliveries, in their order. One query beside their channels, however many there are."""
    attempts: dict[UUID, list[Attempt]] = defaultdict(list)
    for attempt in Attempt.objects.filter(delivery__in=rows).order_by("number"):
        attempts[attempt.delivery_id].append(attempt)
    return [_tell(row, attempts[row.uid]) for row in rows]


def summary(row: Delivery) -> dict[str, Any]:
    """A delivery without its message and its attempts."""
    return {
        "uid": str(row.uid),
        "channel": row.channel.name,
        "kind": row.kind,
        "to": row.to,
        "origin": str(row.origin) if row.origin else None,
        "template": row.template,
        "category": row.category,
        "priority": row.priority,
        "state": row.state,
        "reason": row.reason or None,
        "tries": row.attempts,
        "instead_of": str(row.instead_of) if row.instead_of else None,
        "due_at": time_of(row.due_at),
        "created_at": time_of(row.created_at),
        "finished_at": time_of(row.finished_at),
    }


def whole(row: Delivery) -> dict[str, Any]:
    """A delivery with all there is to tell."""
    return {**summary(row), **tell([row])[0]}


def recovery(row: Recovery) -> dict[str, Any]:
    """How far a recovery has come."""
    return {
        "id": row.pk,
        "channel": row.channel.name,
        "since": time_of(row.since),
        "until": time_of(row.until),
        "found": row.found,
        "sent": row.sent,
        "started_by": row.started_by,
        "finished_at": time_of(row.finished_at),
    }


def _tell(row: Delivery, attempts: Iterable[Attempt]) -> dict[str, Any]:
    return {
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
            for attempt in attempts
        ],
    }
