"""Counters over all processes and machines: counted in memory, added to the Tally rows every second, shown at /metrics.

A process that is killed loses what it counted in the last second: these are for graphs and alerts. What must never be
lost is in the rows themselves.
"""

from __future__ import annotations

import threading
from collections import Counter

import orjson
from django.db import connection, transaction

_counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
_lock = threading.Lock()

HELP = {
    "carillon_events_accepted_total": "Events stored, by source.",
    "carillon_events_duplicate_total": "Events that had been stored before, by source.",
    "carillon_events_refused_total": "Requests to store events that were refused, by HTTP status.",
    "carillon_events_routed_total": "Events whose subscriptions were all asked.",
    "carillon_verdicts_total": "What subscriptions said, by verdict.",
    "carillon_runs_total": "Runs that came to an end, by workflow and state.",
    "carillon_deliveries_total": "Attempts at deliveries, by channel and outcome.",
    "carillon_bells_total": "Bells by outcome: rung, waiting (one was on its way), failed, muted (after a failure).",
}


def count(name: str, n: int = 1, **labels: str) -> None:
    """Add `n` to a counter of `HELP`. Costs a dictionary update; `flush` writes."""
    with _lock:
        _counts[name, tuple(sorted(labels.items()))] += n


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
                "INSERT INTO project_tally (name, labels, value) VALUES (%s, %s::jsonb, %s) ON CONFLICT "
                "ON CONSTRAINT one_tally_per_name_and_labels DO UPDATE SET value = project_tally.value + excluded.value",
                rows,
            )
    except BaseException:
        with _lock:
            _counts.update(taken)
        raise
