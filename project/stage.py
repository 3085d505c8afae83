"""A stage: a kind of rows that come due, and the function that does what is due. One Celery task each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from celery import shared_task

from project.doorbell import answered, doorbell
from project.due import DueQuerySet

Counts: TypeAlias = dict[str, int]

SLICE: Final = 5.0  # seconds after which a task makes room for another, and rings again
UNLIMITED: Final = 10 * 365 * 24 * 3600  # seconds; without a limit of its own a task has the one of all


@dataclass(frozen=True)
class Stage:
    """`drain` does one batch of what is due among `rows` and says how many of what it did; nothing when none was due.

    When no number reaches `batch` it was the last: what has been committed since then has rung again.
    """

    name: str
    rows: Callable[[], DueQuerySet[Any]]
    drain: Callable[[], Counts]
    batch: int = 1

    def drain_for(self, seconds: float) -> tuple[Counts, bool]:
        """Drain until nothing is due or the time is over; returns what was done, and whether work may be left."""
        started, counts = time.monotonic(), Counter[str]()
        while True:
            done = self.drain()
            counts.update(done)
            if max(done.values(), default=0) < self.batch:
                return dict(+counts), False
            if time.monotonic() - started > seconds:
                return dict(+counts), True


stages: dict[str, Stage] = {}


def stage(
    name: str, *, rows: Callable[[], DueQuerySet[Any]], batch: int = 1, own_limits: bool = False
) -> Callable[[Callable[[], Counts]], Any]:
    """Make the decorated `drain` a stage, and the Celery task of the same name that drains it when the bell rings.

    Its queue stands in `project.celeryconfig.task_routes`. What the task returns, Flower shows. `own_limits`: `drain`
    sees to it that it ends, and Celery's time limit does not apply.
    """
    limits: dict[str, Any] = {"time_limit": UNLIMITED, "soft_time_limit": UNLIMITED} if own_limits else {}

    def register(drain: Callable[[], Counts]) -> Any:
        stages[name] = it = Stage(name, rows, drain, batch)

        @shared_task(name=name, **limits)
        def answer(by: str = "") -> Counts:
            answered(name)  # before the first claim: what is committed from here on rings again
            counts, left = it.drain_for(SLICE)
            if left:
                doorbell.ring(name, by)
            return counts

        return answer

    return register
