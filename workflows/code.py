"""Steps of ordinary code: one at a time, in a process that may die of it.

The process is a child of a prefork worker, or `manage.py perform`. A step over its time limit is stopped by an alarm;
one that cannot be stopped takes its process with it, and its lease does the rest.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from project.doorbell import doorbell
from project.stage import Counts
from project.time_limit import OutOfTime, within
from workflows import performing
from workflows.actions.base import OutsideAction, StepError
from workflows.models import Lane, StepRun
from workflows.performing import Done, Job

log = structlog.get_logger(__name__)

PAUSE: Final = 1.0  # seconds between two tries to record an outcome when PostgreSQL is away

expendable = False
"""Whether this process may die of a step: true in a prefork worker's children and in `manage.py perform`."""

_helper: subprocess.Popen[bytes] | None = None


def drain() -> Counts:
    """Do one due step here, or where that is not safe have a process of its own do what is due."""
    return perform_one() if expendable else _have_it_done()


def perform_one(*, fatal: bool = True) -> Counts:
    """Do one due step. Only in the main thread. `fatal`: the process ends when the step cannot be stopped."""
    claimed = performing.claim(Lane.CODE, 1)
    if claimed.more:
        doorbell.ring("workflows.perform")  # somebody else can do the next one at the same time
    dones = [*claimed.over, *(_perform(job, fatal=fatal) for job in claimed.jobs)]
    if dones:
        _record(dones)
    return {"steps": len(dones)} if dones else {}


def _perform(job: Job, *, fatal: bool) -> Done:
    action = job.action
    try:
        if not isinstance(action, OutsideAction):
            raise StepError(f"{action.name} is not performed by ordinary code", permanent=True)
        return performing.returned(job, within(job.seconds, lambda: action.perform(job.call), fatal=fatal))
    except (StepError, OutOfTime) as error:
        return performing.failed(job, error)
    except (Exception, SystemExit) as error:  # an action is foreign code; what it raises is an outcome
        log.exception("action failed", action=action.name, step=str(job.uid))
        return performing.failed(job, error)


def _record(dones: list[Done]) -> None:
    """Record, also when PostgreSQL comes back only in a moment: what was done should not be done again."""
    until = time.monotonic() + performing.LEASE_MARGIN - PAUSE
    while True:
        try:
            close_old_connections()  # the step may have taken longer than a connection lives
            performing.record(dones)
            return
        except (OperationalError, InterfaceError) as error:
            if time.monotonic() > until:
                raise
            log.warning("no database, trying again", error=" ".join(str(error).split()))
            connection.close()
            time.sleep(PAUSE)


def _have_it_done() -> Counts:
    """Start `manage.py perform`, unless one that this process started is still at work. Does not wait for it."""
    global _helper
    at_work = _helper is not None and _helper.poll() is None
    if not at_work and StepRun.objects.filter(lane=Lane.CODE).due().exists():
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "perform"]
        _helper = subprocess.Popen(command, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL)
    return {}
