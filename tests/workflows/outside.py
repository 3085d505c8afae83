"""Runs that have come to an outside step: the engine has handed it over, and it is due for a performer.

And a worker of another application, for `task.call`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from project.children import kill
from tests import servers
from tests.live import Live
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


@contextmanager
def billing(live: Live) -> Iterator[None]:
    """A worker of the foreign application, without one variable of Carillon's."""
    command = [sys.executable, "-m", "celery", "-A", "tests.workflows.stranger.billing:app", "worker"]
    command += ["-P", "solo", "-Q", "billing", "--without-gossip", "--without-mingle", "-n", "billing@%h"]
    ours = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    # Celery refuses pickle to root, as which some machines run tests.
    ours |= {"BROKER": live.valkey.url, "C_FORCE_ROOT": "1"}
    child = servers.nursery.spawn(command, log=live.log("billing"), env=ours)
    try:
        yield
    finally:
        kill(child)
