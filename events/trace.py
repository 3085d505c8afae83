"""The whole story of an event: who was asked and why, which runs it started, what their steps did, who was told."""

from __future__ import annotations

from typing import Any

from events.models import Event
from project.timestamps import time_of
from workflows import story
from workflows.models import Run


def trace(event: Event) -> dict[str, Any]:
    """The trace as JSON (docs/reference/api.md).

    Five queries, however long the story, and one for each generation of runs that runs started.
    """
    runs = Run.objects.filter(origin=event.uid).select_related("workflow", "version").order_by("uid")
    return {
        "event": event.envelope(),
        "received_at": time_of(event.received_at),
        "routed_at": time_of(event.routed_at),
        "error": event.error or None,
        "subscriptions": event.verdicts,
        "runs": story.tell(list(runs)),
    }
