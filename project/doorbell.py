"""The doorbell: tells the workers, after a commit, that rows are due. It cannot fail a request, nor slow it.

A ring is one Celery message, sent unless one is already waiting (a cache key that the task deletes before it looks for
rows). Rings are best effort: what a lost one would have announced is found by the clock a second later.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

import structlog
from celery import current_app
from django.core.cache import cache
from django.db import close_old_connections, connection, transaction

from project import metrics

log = structlog.get_logger(__name__)

WAITING_FOR: Final = 2  # seconds after which a message that nobody took is thought lost
PAUSE: Final = 0.02  # between two rounds of ringing while many ring: what comes in meanwhile shares one message
BRIEF_PAUSE: Final = 0.003  # the same while few do: nobody waits for company that does not come
MANY: Final = 3  # rings in a round
MUTED_FOR: Final = 3.0  # seconds without ringing after a failure
CONFIRMED_WITHIN: Final = 2.0  # seconds; only RabbitMQ confirms


class Doorbell:
    """One per process: `ring` sets a flag, a thread of its own sends."""

    def __init__(self) -> None:
        self._wanted: dict[str, str] = {}
        self._rings = 0
        self._flag = threading.Event()
        self._lock = threading.Lock()
        self._pid = 0
        self._muted_until = 0.0
        os.register_at_fork(after_in_child=self._forked)

    def ring(self, stage: str, by: str = "") -> None:
        """Have the stage's task look for due rows soon. `by` names what made them due; Flower shows it."""
        with self._lock:
            self._wanted.setdefault(stage, by)
            self._rings += 1
            if self._pid != os.getpid():
                self._pid = os.getpid()
                threading.Thread(target=self._serve, name="doorbell", daemon=True).start()
        self._flag.set()

    def _forked(self) -> None:
        # The parent's thread does not exist here, and its lock may have been held when the process split.
        self._lock, self._flag, self._wanted, self._rings = threading.Lock(), threading.Event(), {}, 0

    def _serve(self) -> None:
        while True:
            self._flag.wait()
            self._flag.clear()
            with self._lock:
                wanted, self._wanted = self._wanted, {}
                rings, self._rings = self._rings, 0
            close_old_connections()  # for the cache, where that is a table
            for stage, by in wanted.items():
                self._send(stage, by)
            time.sleep(PAUSE if rings >= MANY else BRIEF_PAUSE)

    def _send(self, stage: str, by: str) -> None:
        if time.monotonic() < self._muted_until:
            metrics.count("carillon_bells_total", stage=stage, outcome="muted")
            return
        try:
            outcome = send(stage, by)
        except Exception as error:  # whatever the broker, kombu or DNS raise: rows are safe, the clock finds them
            connection.close()
            self._muted_until = time.monotonic() + MUTED_FOR
            outcome = "failed"
            log.warning("bell failed", stage=stage, error=str(error), muted_for=MUTED_FOR)
        metrics.count("carillon_bells_total", stage=stage, outcome=outcome)


def send(stage: str, by: str = "") -> str:
    """Send a message for the stage, unless one is waiting: "rung" or "waiting". Raises when the broker is away."""
    if not cache.add(_key(stage), 1, WAITING_FOR):
        return "waiting"
    current_app.send_task(stage, kwargs={"by": by}, ignore_result=True, confirm_timeout=CONFIRMED_WITHIN)
    return "rung"


def answered(stage: str) -> None:
    """Let the next commit ring again. A stage's task calls this before it looks for rows."""
    try:
        cache.delete(_key(stage))
    except Exception as error:  # the key runs out by itself
        log.info("bell not reset", stage=stage, error=str(error))


def _key(stage: str) -> str:
    return f"bell:{stage}"


doorbell = Doorbell()


def ring(stage: str, by: str = "") -> None:
    """Ring after the current transaction's commit, or now when there is none."""
    transaction.on_commit(lambda: doorbell.ring(stage, by), robust=True)
