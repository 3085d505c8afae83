"""How the sources that consume from brokers are doing, over all processes: by the heartbeats of the consumers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from events.consuming import PROCESS, State
from project.models import Heartbeat

CONSUMERS: Final = f"{PROCESS}@"  # how the names of their heartbeats begin


@dataclass(frozen=True)
class Consumed:
    """What the consumers of a source say. `state` is the best of theirs, `error` what one of the others says."""

    processes: int
    connected: int
    state: str
    error: str
    lag: int | None  # messages that wait at the broker
    last: float | None  # when a batch was stored last, in seconds since 1970
    delay: float | None  # seconds from the broker to the commit, of the oldest message of that batch

    def __str__(self) -> str:
        lag = "" if self.lag is None else f", {self.lag:,} messages wait at the broker"
        return f"{self.connected} of {self.processes} consume{lag}"


def consumed(alive: Mapping[str, Any] | None = None) -> dict[str, Consumed]:
    """By source; only those that somebody consumes. `alive`: heartbeats' details by process, where they are known."""
    if alive is None:
        rows = Heartbeat.alive().filter(process__startswith=CONSUMERS)
        alive = {beat.process: beat.detail for beat in rows}
    said = defaultdict(list)
    for process, detail in alive.items():
        if process.startswith(CONSUMERS):
            for name, status in detail.get("sources", {}).items():
                said[name].append(status)
    return {name: _together(statuses) for name, statuses in said.items()}


def wrong_with(feed: Consumed | None) -> tuple[str, str] | None:
    """What is wrong with how an enabled source is consumed, and what helps; None: nothing."""
    if feed is None:
        return (
            "nobody has consumed it for 20 s, and its messages wait at the broker",
            "Start `manage.py consume`, the process `consumer`.",
        )
    if feed.connected == 0 and feed.state != State.STARTING:
        return (
            f"{feed.state}: {feed.error}",
            "It is tried again by itself. Is the broker there, and are the source's settings right?",
        )
    return None


def _together(statuses: list[dict[str, Any]]) -> Consumed:
    connected = [status for status in statuses if status["state"] == State.CONSUMING]
    newest = max(statuses, key=lambda status: status["last"] or 0)
    lags = [status["lag"] for status in statuses if status["lag"] is not None]
    return Consumed(
        processes=len(statuses),
        connected=len(connected),
        state=(connected or statuses)[0]["state"],
        error=next((status["error"] for status in statuses if status["error"]), ""),
        lag=max(lags) if lags else None,  # each counts for all
        last=newest["last"],
        delay=newest["delay"],
    )
