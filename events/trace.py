"""The whole story of an event: who was asked and why, which runs it started, what their steps did, who was told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from events.models import Event, Replay
from project.timestamps import time_of
from workflows import story
from workflows.models import Run
from workflows.timeline import Line, Span, lines_of, run_line


def trace(event: Event) -> dict[str, Any]:
    """The trace as JSON (docs/reference/api.md).

    Six queries, however long the story, and one for each generation of runs that runs started.
    """
    runs = Run.objects.filter(origin=event.uid).select_related("workflow", "version").order_by("uid")
    return {
        "event": event.envelope(),
        "received_at": time_of(event.received_at),
        "routed_at": time_of(event.routed_at),
        "error": event.error or None,
        "subscriptions": event.verdicts,
        "replays": [tell_replay(replay) for replay in event.replays.all()],
        "runs": story.tell(list(runs)),
    }


def tell_replay(replay: Replay) -> dict[str, Any]:
    """A replay as JSON; its runs are told with the others, by its number."""
    return {
        "number": replay.number,
        "subscription": replay.subscription or None,
        "by": replay.by,
        "made_at": time_of(replay.made_at),
        "routed_at": time_of(replay.routed_at),
        "error": replay.error or None,
        "subscriptions": replay.verdicts,
    }


def lines(told: dict[str, Any], now: datetime) -> Iterator[Line]:
    """What the event's trace tells, as lines of a timeline: how long it waited to be routed, then each run."""
    received = datetime.fromisoformat(told["received_at"])
    routed = datetime.fromisoformat(told["routed_at"]) if told["routed_at"] else now
    state = "routed" if told["routed_at"] else "waiting"
    yield Line("routing", "#event", 0, state, (Span("wait", received, max(received, routed), state, "waited"),))
    for run in told["runs"]:
        yield run_line(run, now)
        yield from lines_of(run, now, depth=1)


def awaited(event: Event, told: dict[str, Any], now: datetime) -> Iterator[datetime | None]:
    """When what is under way in the event's trace goes on, a time for each thing; None: nobody can say."""
    if event.due_at is not None:
        yield event.due_at
    yield from (now for replay in told["replays"] if replay["routed_at"] is None)
    for run in told["runs"]:
        yield from story.awaited(run, now)
