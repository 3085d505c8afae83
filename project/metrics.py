"""Counters over all processes and machines: counted in memory, added to the Tally rows every second, shown at /metrics.

What charts show of them is added to the minute (project/minutes.py) in the same transaction.

A process that is killed loses what it counted in the last second: these are for graphs and alerts. What must never be
lost is in the rows themselves.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import orjson
import structlog
from django.db import close_old_connections, connection, transaction

from project import minutes

log = structlog.get_logger(__name__)

FLUSH_AFTER: Final = 1.0  # seconds
IDLE: Final = 5.0  # seconds without a count after which the thread ends, and its database session with it

_counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
_lock = threading.Lock()
_wanted = threading.Event()
_thread: threading.Thread | None = None

HELP = {
    "carillon_events_accepted_total": "Events stored, by source.",
    "carillon_events_duplicate_total": "Events that had been stored before, by source.",
    "carillon_events_refused_total": "Requests to store events that were refused, by HTTP status.",
    "carillon_consumer_messages_total": "What consumers of brokers did with messages, by source and outcome.",
    "carillon_events_routed_total": "Events whose subscriptions were all asked.",
    "carillon_replays_routed_total": "Replays of events whose subscriptions were asked again.",
    "carillon_verdicts_total": "What subscriptions said to events the first time, by verdict.",
    "carillon_runs_total": "Runs that came to an end, by workflow and state.",
    "carillon_step_attempts_total": "Attempts at outside steps, by action and outcome.",
    "carillon_deliveries_total": "Attempts at deliveries, by channel and outcome.",
    "carillon_bells_total": "Bells by outcome: rung, waiting (one was on its way), failed, muted (after a failure).",
}


def count(name: str, n: int = 1, **labels: str) -> None:
    """Add `n` to a counter of `HELP`. Costs a dictionary update; a thread writes a second later."""
    global _thread
    with _lock:
        _counts[name, tuple(sorted(labels.items()))] += n
        if _thread is None:
            _thread = threading.Thread(target=_serve, name="metrics", daemon=True)
            _thread.start()
    _wanted.set()


def flush() -> None:
    """Add what was counted since the last flush to the Tally rows; keeps it for the next time when that fails."""
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    if not taken:
        return
    try:
        counted = [(name, dict(labels), n) for (name, labels), n in taken.items()]
        with transaction.atomic():
            _add(counted)
            minutes.add(counted)
    except BaseException:
        with _lock:
            _counts.update(taken)
        raise


def _add(counted: Sequence[minutes.Counted]) -> None:
    rows = [{"name": name, "labels": labels, "n": n} for name, labels, n in counted]
    with connection.cursor() as cursor:
        # The ORM's bulk_create cannot add to what is there. In one order, so that no two processes wait for each other.
        cursor.execute(
            "INSERT INTO project_tally AS tally (name, labels, value) "
            "SELECT name, labels, n FROM jsonb_to_recordset(%s::jsonb) AS counted (name text, labels jsonb, n bigint) "
            "ORDER BY name, labels "
            "ON CONFLICT ON CONSTRAINT one_tally_per_name_and_labels "
            "DO UPDATE SET value = tally.value + excluded.value",
            [orjson.dumps(rows).decode()],
        )


def _serve() -> None:
    """Flush every second as long as something is counted. One session: to open one costs more than to flush."""
    global _thread
    while True:
        if not _wanted.wait(IDLE):
            with _lock:
                if not _counts:
                    _thread = None
                    break
        time.sleep(FLUSH_AFTER)
        _wanted.clear()
        try:
            close_old_connections()
            flush()
        except Exception as error:  # the database is away: the counts are kept for the next time
            log.info("metrics not flushed", error=" ".join(str(error).split()))
    connection.close()  # the thread's own


def _forked() -> None:
    """What the parent counted is the parent's, and its thread does not run in the child."""
    global _lock, _wanted, _thread
    _lock, _wanted, _thread = threading.Lock(), threading.Event(), None
    _counts.clear()


os.register_at_fork(after_in_child=_forked)
