"""Counters over all processes and machines: counted in memory, added to the Tally rows every second, shown at /metrics.

A process that is killed loses what it counted in the last second: these are for graphs and alerts. What must never be
lost is in the rows themselves.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import Final

import orjson
import structlog
from django.db import connection, transaction

log = structlog.get_logger(__name__)

FLUSH_AFTER: Final = 1.0  # seconds

_counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
_lock = threading.Lock()
_timer: threading.Timer | None = None

HELP = {
    "carillon_events_accepted_total": "Events stored, by source.",
    "carillon_events_duplicate_total": "Events that had been stored before, by source.",
    "carillon_events_refused_total": "Requests to store events that were refused, by HTTP status.",
    "carillon_events_routed_total": "Events whose subscriptions were all asked.",
    "carillon_verdicts_total": "What subscriptions said, by verdict.",
    "carillon_runs_total": "Runs that came to an end, by workflow and state.",
    "carillon_step_attempts_total": "Attempts at outside steps, by action and outcome.",
    "carillon_deliveries_total": "Attempts at deliveries, by channel and outcome.",
    "carillon_bells_total": "Bells by outcome: rung, waiting (one was on its way), failed, muted (after a failure).",
}


def count(name: str, n: int = 1, **labels: str) -> None:
    """Add `n` to a counter of `HELP`. Costs a dictionary update; a thread writes a second later."""
    global _timer
    with _lock:
        _counts[name, tuple(sorted(labels.items()))] += n
        if _timer is None:
            _timer = threading.Timer(FLUSH_AFTER, _flush_in_thread)
            _timer.daemon = True
            _timer.start()


def flush() -> None:
    """Add what was counted since the last flush to the Tally rows; keeps it for the next time when that fails."""
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    if not taken:
        return
    try:
        # In one order, so that two processes cannot wait for each other.
        rows = [(name, orjson.dumps(dict(labels)).decode(), n) for (name, labels), n in sorted(taken.items())]
        with transaction.atomic(), connection.cursor() as cursor:
            # The ORM's bulk_create cannot add to what is there.
            cursor.executemany(
                "INSERT INTO project_tally AS tally (name, labels, value) VALUES (%s, %s::jsonb, %s) "
                "ON CONFLICT ON CONSTRAINT one_tally_per_name_and_labels "
                "DO UPDATE SET value = tally.value + excluded.value",
                rows,
            )
    except BaseException:
        with _lock:
            _counts.update(taken)
        raise


def _flush_in_thread() -> None:
    global _timer
    with _lock:
        _timer = None
    try:
        flush()
    except Exception as error:  # the database is away: the counts are kept for the next time
        log.info("metrics not flushed", error=" ".join(str(error).split()))
    finally:
        connection.close()  # the thread's own


def _forked() -> None:
    """What the parent counted is the parent's, and its timer does not run in the child."""
    global _lock, _timer
    _lock, _timer = threading.Lock(), None
    _counts.clear()


os.register_at_fork(after_in_child=_forked)
