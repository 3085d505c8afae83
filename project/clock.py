"""The clock: rings for what is due, and does the work itself when nobody can hear the bell.

It is part of the engine, not an extra: retries and timers are rows whose time comes, and a bell that was lost with Redis
or with a killed worker is made good here, within a second.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from django.utils import timezone

from project import metrics
from project.doorbell import send
from project.models import Heartbeat
from project.stage import stages

log = structlog.get_logger(__name__)

TICK: Final = 1.0
SLICE: Final = 2.0  # seconds of a stage's work between two looks at Redis
LOCK: Final = 0x6361_7269_6C6C_6F6E  # "carillo n": the advisory lock that lets one clock tick


class Clock:
    """`run` ticks until `stop` is set. Any number may run: one ticks, the others stand by for its death."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._deaf_since: float | None = None
        self._ticking = False

    def run(self) -> None:
        while not self.stop.is_set():
            started = time.monotonic()
            try:
                close_old_connections()
                self.tick()
            except DatabaseError as error:
                self._ticking = False  # the lock went with the connection
                connection.close()
                log.warning("no database, trying again", error=str(error).strip())
            self.stop.wait(max(0.0, TICK - (time.monotonic() - started)))

    def tick(self) -> None:
        """One look at everything that is due."""
        if not self._may_tick():
            return
        Heartbeat.beat("clock", deaf=self._deaf_since is not None)
        for stage in stages.values():
            if stage.rows().due().exists():
                self._ring(stage.name)
        if self._deaf_since is not None and time.monotonic() - self._deaf_since > settings.CLOCK_DRAINS_AFTER:
            self._drain()
        metrics.flush()

    def _may_tick(self) -> bool:
        if connection.connection is None or not self._ticking:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
                (ticking,) = cursor.fetchone() or (False,)
            if ticking and not self._ticking:
                log.info("ticking")
            self._ticking = bool(ticking)
        return self._ticking

    def _ring(self, stage: str) -> None:
        try:
            outcome = send(stage, by="clock")
        except Exception as error:  # whatever Redis, kombu or DNS raise: this is what the clock is for
            outcome = "failed"
            if self._deaf_since is None:
                self._deaf_since = time.monotonic()
                log.warning("bells cannot be rung", error=str(error), drains_after=settings.CLOCK_DRAINS_AFTER)
        else:
            if self._deaf_since is not None:
                log.info("bells ring again")
            self._deaf_since = None
        metrics.count("carillon_bells_total", stage=stage, outcome=outcome)

    def _drain(self) -> None:
        """Do the stages' work here: losing Redis costs speed, never progress."""
        for stage in stages.values():
            counts, _ = stage.drain_for(SLICE)
            if any(counts.values()):
                log.info("drained without Redis", stage=stage.name, **counts)


def forget_dead_processes() -> None:
    """Drop heartbeats of processes that are gone for a day."""
    Heartbeat.objects.filter(at__lt=timezone.now() - timedelta(days=1)).delete()
