"""From waiting rows to events that Carillon has: claim some, post them, delete what was accepted.

At least once from here, once in Carillon: an event keeps its id, and one that is sent again is a duplicate there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from django.db import connections, transaction
from django.utils import timezone

from carillon_outbox.models import OutgoingEvent

BATCH = 100  # events in a request
BATCH_BYTES = 4 * 1024 * 1024  # of it; Carillon takes 5 MiB
TIMEOUT = 10.0  # seconds without a byte of the answer
REFUSED = (400, 413, 422)  # what is wrong is in the events; all else is tried again


class Away(Exception):
    """Carillon did not take the events, through no fault of theirs. `retry_after`: the seconds it asked for, or 0."""

    def __init__(self, told: str, retry_after: float = 0.0) -> None:
        super().__init__(told)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Sent:
    """What became of a batch."""

    accepted: int = 0
    duplicates: int = 0  # of these: Carillon had them
    refused: int = 0
    oldest: float = 0.0  # seconds since the first of them was emitted
    full: bool = False  # there may be more

    def __bool__(self) -> bool:
        return self.accepted + self.refused > 0


def send_batch(carillon: Carillon, using: str = "default") -> Sent:
    """Send the oldest events that nobody else is sending, at most BATCH. Raises Away, and then all are kept."""
    # They are locked for as long as it takes (a lease would let younger events overtake those of a sender that died).
    # SQLite has no such locks, and a transaction that waits for a network would keep everybody else from writing.
    locks = connections[using].features.has_select_for_update_skip_locked
    waiting = OutgoingEvent.objects.using(using).filter(refused_at__isnull=True).order_by("id")
    with transaction.atomic(using=using) if locks else nullcontext():
        found = list((waiting.select_for_update(skip_locked=True) if locks else waiting)[:BATCH])
        rows = _within_bounds(found)
        if not rows:
            return Sent()
        outcome = _deliver(carillon, rows)
        accepted = [row.pk for row in rows if row.pk not in outcome.refused]
        OutgoingEvent.objects.using(using).filter(pk__in=accepted).delete()
        for row in rows:
            if row.pk in outcome.refused:
                row.refused_at, row.reason = timezone.now(), outcome.refused[row.pk]
                row.save(using=using, update_fields=["refused_at", "reason"])
    oldest = (timezone.now() - rows[0].emitted_at).total_seconds()
    return Sent(len(accepted), outcome.duplicates, len(outcome.refused), oldest, full=len(found) == BATCH)


@dataclass(frozen=True)
class Status:
    """How far the outbox is behind."""

    waiting: int
    oldest: float  # seconds that the first of these waits
    refused: int

    def __str__(self) -> str:
        return f"waiting={self.waiting} oldest_seconds={self.oldest:.1f} refused={self.refused}"


def status(using: str = "default") -> Status:
    rows = OutgoingEvent.objects.using(using)
    waiting = rows.filter(refused_at__isnull=True)
    first = waiting.order_by("id").first()
    oldest = (timezone.now() - first.emitted_at).total_seconds() if first else 0.0
    return Status(waiting.count(), oldest, rows.filter(refused_at__isnull=False).count())


class Carillon:
    """Where events go: the address of a Carillon, and an API key with the scope events:write."""

    def __init__(self, url: str, key: str) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/events"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._opener = build_opener(_NoRedirects)

    def post(self, bodies: Sequence[str]) -> Answer:
        """Send these events, in JSON, as one batch: all are stored, or none. Raises Away."""
        request = Request(self._url, f"[{','.join(bodies)}]".encode(), self._headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                told = json.load(response)
            if told["accepted"] + told["duplicates"] != len(bodies):
                raise Away(f"{self._url} took {told['accepted']} of {len(bodies)} events")
            return Answer(duplicates=told["duplicates"])
        except HTTPError as error:
            with error:
                return _refusal(error, error.read())
        except (OSError, HTTPException) as error:
            raise Away(
                f"{self._url} cannot be reached: {getattr(error, 'reason', None) or error or type(error).__name__}"
            ) from error
        except (ValueError, KeyError, TypeError) as error:  # a proxy's page, perhaps
            raise Away(f"what answers at {self._url} is no Carillon") from error


@dataclass(frozen=True)
class Answer:
    """What Carillon says of a batch. Where it was refused, why; `faults`: of single events, by their index."""

    duplicates: int = 0
    refused: str = ""
    faults: dict[int, str] = field(default_factory=dict)


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would become a GET, and its 200 would say nothing of the events."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _refusal(error: HTTPError, body: bytes) -> Answer:
    try:
        problem = json.loads(body)
        told, errors = str(problem["detail"]), problem.get("errors", [])
        faults: dict[int, str] = {}
        for each in errors:
            index, _, path = each["path"].partition(".")
            if index.isdecimal():
                reason = f"{path}: {each['message']}" if path else each["message"]
                faults[int(index)] = "\n".join(filter(None, [faults.get(int(index), ""), reason]))
    except (ValueError, KeyError, TypeError, AttributeError):
        told, faults = error.reason or "no reason", {}
    if error.code in REFUSED or (error.code == 403 and faults):
        return Answer(refused=told, faults=faults)
    retry_after = error.headers.get("Retry-After") or ""
    raise Away(f"it answered {error.code}: {told}", float(retry_after) if retry_after.isdecimal() else 0.0)


@dataclass
class _Outcome:
    refused: dict[int, str] = field(default_factory=dict)  # rows' primary keys, with the reason
    duplicates: int = 0


def _deliver(carillon: Carillon, rows: Sequence[OutgoingEvent]) -> _Outcome:
    """Send the rows; those that are refused do not keep the others."""
    outcome = _Outcome()
    left = [list(rows)]
    while left:
        batch = left.pop()
        answer = carillon.post([row.body for row in batch])
        outcome.duplicates += answer.duplicates
        faults = {index: reason for index, reason in answer.faults.items() if index < len(batch)}
        if not answer.refused:
            continue
        if faults:
            outcome.refused.update({batch[index].pk: reason for index, reason in faults.items()})
            rest = [row for index, row in enumerate(batch) if index not in faults]
            left.extend([rest] if rest else [])
        elif len(batch) == 1:
            outcome.refused[batch[0].pk] = answer.refused
        else:  # it does not say whose fault it is
            left.extend([row] for row in reversed(batch))
    return outcome


def _within_bounds(rows: Iterable[OutgoingEvent]) -> list[OutgoingEvent]:
    chosen: list[OutgoingEvent] = []
    size = 0
    for row in rows:
        size += len(row.body) + 1
        if chosen and size > BATCH_BYTES:
            break
        chosen.append(row)
    return chosen
