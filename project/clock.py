"""The clock: rings for what is due, and does the work itself when nobody can hear the bell.

It is part of the engine, not an extra: retries and timers are rows whose time comes, and a bell that was lost with
Redis or with a killed worker is made good here, within a second.
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
from django.db.models.functions import Now

from project import ledger, metrics, minutes
from project.doorbell import send
from project.models import Heartbeat
from project.stage import stages

log = structlog.get_logger(__name__)

TICK: Final = 1.0
AUDIT_EVERY: Final = 60.0  # seconds between two audits of the ledger
PATIENCE: Final = 6.0  # seconds that the end waits for an audit: its statements take no longer
SLICE: Final = 2.0  # seconds of a stage's work between two looks at the broker
FORGOTTEN_AFTER: Final = timedelta(days=1)  # a process that is gone
LOCK: Final = 0x6361_7269_6C6C_6F6E  # "carillo n": the advisory lock that lets one clock tick


class Clock:
    """`run` ticks until `stop` is set. Any number may run: one ticks, the others stand by for its death."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._deaf_since: float | None = None
        self._ticking = False

    def run(self) -> None:
        # In a thread of its own, so that no bell waits for an audit.
        bookkeeper = threading.Thread(target=self._keep_books, name="ledger", daemon=True)
        bookkeeper.start()
        while not self.stop.is_set():
            started = time.monotonic()
            try:
                close_old_connections()
                self.tick()
            except DatabaseError as error:
                self._ticking = False
                connection.close()
                log.warning("no database, trying again", error=str(error).strip())
            self.stop.wait(max(0.0, TICK - (time.monotonic() - started)))
        bookkeeper.join(timeout=PATIENCE)

    def _keep_books(self) -> None:
        """Audit the ledger every minute and drop minutes of yesterday, while this clock is the one that ticks."""
        again_at = 0.0
        while not self.stop.wait(TICK):
            if not self._ticking or time.monotonic() < again_at:
                continue
            again_at = time.monotonic() + AUDIT_EVERY
            try:
                close_old_connections()
                minutes.forget()
                ledger.keep(stop=self.stop.is_set)
            except DatabaseError as error:
                log.warning("ledger not kept", error=str(error).strip())
        connection.close()

    def tick(self) -> None:
        """One look at everything that is due, unless another clock ticks."""
        if not self._may_tick():
            return
        Heartbeat.beat("clock", deaf=self._deaf_since is not None)
        Heartbeat.objects.filter(at__lt=Now() - FORGOTTEN_AFTER).delete()
        for stage in stages.values():
            if stage.rows().any_due():
                self._ring(stage.name)
        if self._deaf_since is not None and time.monotonic() - self._deaf_since > settings.CLOCK_DRAINS_AFTER:
            self._drain()

    def _may_tick(self) -> bool:
        # Asked every time, for Django reconnects without a word, and the lock goes with the connection. Whoever has it
        # gets it again.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            (ticking,) = cursor.fetchone() or (False,)
        if ticking != self._ticking:
            log.info("ticking" if ticking else "another clock ticks")
        self._ticking = ticking
        return self._ticking

    def _ring(self, stage: str) -> None:
        try:
            outcome = send(stage, by="clock")
        except Exception as error:  # whatever the broker, kombu or DNS raise: this is what the clock is for
            outcome = "failed"
            if self._deaf_since is None:
                self._deaf_since = time.monotonic()
                log.warning("bells cannot be rung", error=str(error), drains_after=settings.CLOCK_DRAINS_AFTER)
        # That one is waiting says nothing about the broker, only about the cache.
        if outcome == "rung" and self._deaf_since is not None:
            log.info("bells ring again")
            self._deaf_since = None
        metrics.count("carillon_bells_total", stage=stage, outcome=outcome)

    def _drain(self) -> None:
        """Do the stages' work here: losing the broker costs speed, never progress."""
        for stage in stages.values():
            try:
                counts, _ = stage.drain_for(SLICE)
            except DatabaseError:
                raise
            except Exception:  # one stage's trouble is not the others'
                log.exception("stage not drained", stage=stage.name)
                continue
            if any(counts.values()):
                log.info("drained without the broker", stage=stage.name, **counts)
