"""From incoming events to stored ones: checked, stored once, announced. Nothing here needs Redis."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import orjson
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from events import catalogue
from events.catalogue import Catalogue
from events.cloudevents import Incoming
from project import metrics, prepared
from project.api import Fault, Forbidden, TooMany, Unprocessable
from project.batch import is_disconnected
from project.doorbell import ring
from project.identifiers import new_uid
from project.rates import Rate
from project.together import Together

FEW: Final = 10  # events of a call, which may be stored together with those of others …
SMALL: Final = 64 * 1024  # … and bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """An event that is safe."""

    uid: UUID
    id: str
    source: str
    type: str
    duplicate: bool


def accept(
    events: Sequence[Incoming], *, source: str, rate_limit: Rate | None = None, batch: bool = False
) -> list[Stored]:
    """Store what the producer `source` (a URI such as `/shop`) sends, all or nothing; returns what is stored, in order.

    An event whose (source, id) is stored already is returned as it was stored then, with `duplicate`. Raises TooMany,
    Forbidden (an event claims another source) or Unprocessable (unknown type, data against its schema): then nothing is
    stored. Returns only after PostgreSQL has committed, unless the caller holds a transaction open.
    """
    _limit(source, rate_limit, len(events))
    check(events, source=source, batch=batch)
    return store(events, source=source)


def store(events: Sequence[Incoming], *, source: str) -> list[Stored]:
    """The second half of `accept`, for events that `check` has passed."""
    stored = _store(events)
    first = next((event for event in stored if not event.duplicate), None)
    if first is not None:
        ring("events.route", by=f"{first.type} {first.uid}")
    # After the commit: a caller's transaction may yet be undone, and what it stored with it.
    transaction.on_commit(lambda: _count(stored, source), robust=True)
    return stored


def check(events: Sequence[Incoming], *, source: str, batch: bool = False) -> None:
    """Fill in what the producer left out, and raise what `accept` raises for events that it would not store."""
    _fill_in(events, source, batch=batch)
    faults = [fault for index, event in enumerate(events) for fault in _faults(event, f"{index}." if batch else "")]
    if faults:
        raise Unprocessable("; ".join(f"{fault.path}: {fault.message}" for fault in faults[:3]), faults)


def told(stored: Sequence[Stored], *, batch: bool) -> tuple[dict[str, Any], int]:
    """What whoever sent them is answered, and the status: 200 where all had been stored before, else 202."""
    each = [
        {"uid": str(e.uid), "id": e.id, "source": e.source, "type": e.type, "duplicate": e.duplicate} for e in stored
    ]
    duplicates = sum(event.duplicate for event in stored)
    status = 200 if duplicates == len(stored) else 202
    if not batch:
        return each[0], status
    return {"accepted": len(stored) - duplicates, "duplicates": duplicates, "events": each}, status


def _count(stored: Sequence[Stored], source: str) -> None:
    new = Counter(event.source for event in stored if not event.duplicate)
    for name, n in new.items():
        metrics.count("carillon_events_accepted_total", n, source=name)
    if duplicates := len(stored) - new.total():
        metrics.count("carillon_events_duplicate_total", duplicates, source=source)


_buckets: dict[str, tuple[Rate, catalogue.Bucket]] = {}
_buckets_lock = threading.Lock()


def _limit(source: str, rate: Rate | None, n: int) -> None:
    """The source's rate limit, kept by each web process for itself."""
    if rate is None:
        return
    with _buckets_lock:
        known, bucket = _buckets.get(source, (None, None))
        if bucket is None or known != rate:
            bucket = catalogue.Bucket(rate)
            _buckets[source] = (rate, bucket)
        wait = bucket.wait(n)
    if wait:
        raise TooMany(f"{source} may send {rate}; nothing was stored.", retry_after=max(1, round(wait + 0.5)))


def _fill_in(events: Sequence[Incoming], source: str, *, batch: bool) -> None:
    now = timezone.now()
    for index, event in enumerate(events):
        event.source = event.source or source
        if event.source != source and not event.source.startswith(f"{source}/"):
            raise Forbidden(
                f"This API key sends as {source} and below, not as {event.source}.",
                [Fault(f"{index}.source" if batch else "source", f"must be {source} or begin with {source}/")],
            )
        event.id = event.id or str(new_uid())
        event.time = event.time or now


def _faults(event: Incoming, prefix: str) -> list[Fault]:
    faults = _refusals(event, catalogue.catalogue(max_age=catalogue.FRESH), prefix)
    # Nobody is refused for what has been put right a moment ago.
    return faults and _refusals(event, catalogue.catalogue(), prefix)


def _refusals(event: Incoming, configured: Catalogue, prefix: str) -> list[Fault]:
    known = configured.types.get(event.type)
    if known is None:
        return [
            Fault(
                f"{prefix}type", f"there is no event type {event.type!r}; add it in the admin or by `manage.py apply`"
            )
        ]
    if known.retired:
        return [Fault(f"{prefix}type", f"the event type {event.type!r} is retired")]
    try:
        schema = known.schema(event.dataschema)
    except LookupError as error:
        return [Fault(f"{prefix}dataschema", str(error))]
    return schema.faults(event.data, f"{prefix}data") if schema else []


@dataclass(frozen=True, slots=True)
class _Part:
    """What one call stores: events as (source, id, JSON), and what came in where one is a translation."""

    rows: list[tuple[str, str, bytes]]
    originals: list[dict[str, Any]]

    @property
    def large(self) -> bool:
        came = sum(len(original["body"]) for original in self.originals)
        return len(self.rows) > FEW or came + sum(len(row) for *_, row in self.rows) > SMALL


def _store(events: Sequence[Incoming]) -> list[Stored]:
    uids = [new_uid() for _ in events]
    part = _Part(
        [(event.source, event.id, _row(uid, event)) for uid, event in zip(uids, events, strict=True)],
        [
            {"event_id": str(uid), "headers": event.original.headers, "body": event.original.body}
            for uid, event in zip(uids, events, strict=True)
            if event.original
        ],
    )
    # What is stored in a caller's transaction must be undone with it.
    apart = connection.in_atomic_block or part.large
    new = _insert([part])[0] if apart else _insert_together(part)
    if new.issuperset(uids):
        return [Stored(uid, e.id, e.source, e.type, duplicate=False) for uid, e in zip(uids, events, strict=True)]
    first = _first_ones(events)
    kept = ((uid, first[event.source, event.id]) for uid, event in zip(uids, events, strict=True))
    return [replace(stored, duplicate=stored.uid != uid) for uid, stored in kept]


def _row(uid: UUID, event: Incoming) -> bytes:
    return orjson.dumps(
        {
            "uid": uid,
            "source": event.source,
            "event_id": event.id,
            "type": event.type,
            "subject": event.subject,
            "time": event.time,
            "dataschema": event.dataschema,
            "data": event.data,
            "extensions": event.extensions,
            "depth": event.depth,
        }
    )


def _insert(parts: Sequence[_Part]) -> list[set[UUID]]:
    """Store the rows that are not there yet, and what came in with them; returns, for each part, all new uids."""
    # In one order, so that two rounds with events in common cannot wait for each other.
    rows = sorted((row for part in parts for row in part.rows), key=itemgetter(0, 1))
    document = (b"[" + b",".join(row for *_, row in rows) + b"]").decode()
    kept = [original for part in parts for original in part.originals]
    originals = orjson.dumps(kept).decode() if kept else ""
    # Django would ask before each request's first statement whether the connection lives: a second round trip for every
    # event. Here a dead one may be found by its use, because doing it again does no harm.
    connection.health_check_done = True  # type: ignore[attr-defined]  # django-stubs does not know it
    try:
        new = _execute(document, originals)
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block or not is_disconnected():
            raise
        connection.close()
        new = _execute(document, originals)
    return [new] * len(parts)


_insert_together = Together(_insert)


def _execute(rows: str, originals: str) -> set[UUID]:
    # One statement and one parameter for any number of events; the ORM has no ON CONFLICT … RETURNING.
    if originals:
        return {uid for (uid,) in prepared.execute(_INSERT_WITH_ORIGINALS, [rows, originals])}
    return {uid for (uid,) in prepared.execute(_INSERT, [rows])}


_INSERT = """
INSERT INTO events_event
    (uid, source, event_id, type, subject, time, dataschema, data, extensions, depth, verdicts, attempts, error, due_at)
SELECT uid, source, event_id, type, subject, time, dataschema, data, extensions, depth, '[]', 0, '', now()
FROM jsonb_to_recordset(%s::jsonb) AS sent (uid uuid, source text, event_id text, type text, subject text,
    time timestamptz, dataschema text, data jsonb, extensions jsonb, depth smallint)
ON CONFLICT ON CONSTRAINT an_event_counts_once DO NOTHING
RETURNING uid
"""
_INSERT_WITH_ORIGINALS = f"""
WITH stored AS ({_INSERT}), kept AS (
    INSERT INTO events_original (event_id, headers, body)
    SELECT event_id, headers, body
    FROM jsonb_to_recordset(%s::jsonb) AS came (event_id uuid, headers jsonb, body text)
    WHERE event_id IN (SELECT uid FROM stored)
)
SELECT uid FROM stored
"""


def _first_ones(events: Sequence[Incoming]) -> dict[tuple[str, str], Stored]:
    """What is stored under these (source, id) pairs."""
    with connection.cursor() as cursor:
        # A new statement, so that it sees what a request that was faster has committed meanwhile.
        cursor.execute(
            "SELECT uid, event_id, source, type FROM events_event JOIN unnest(%s::text[], %s::text[]) AS sent (s, i) "
            "ON source = s AND event_id = i",
            [[event.source for event in events], [event.id for event in events]],
        )
        rows = cursor.fetchall()
    return {(source, id_): Stored(uid, id_, source, type_, duplicate=True) for uid, id_, source, type_ in rows}
