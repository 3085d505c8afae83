"""What people do with dead letters: try them again, or discard them."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from events import catalogue, ingest, intake
from events.brokers.base import Broker, Message
from events.catalogue import Hook
from events.intake import Unfit
from events.models import DeadLetter, LetterState, Source


class CannotRedrive(Exception):
    """It stays what it is; the text says why."""


def redrive(row: DeadLetter, *, by: str) -> DeadLetter:
    """Have the message translated and stored as if it came now, by the source as it is today; returns the fresh row.

    It is `stored` then, and names its event; an event that had been stored before is that event. Raises CannotRedrive:
    then the row says the new reason. Two who try the same at once store one event.
    """
    with transaction.atomic():
        held = DeadLetter.objects.select_for_update().get(pk=row.pk)
        if held.state == LetterState.STORED:
            raise CannotRedrive("it was stored before")
        try:
            feed = _feed(held)
            stored = ingest.store(intake.read(feed, _message(held)), source=feed.uri)
        except (Unfit, CannotRedrive) as error:
            reason = str(error)
        else:
            held.event = stored[0].uid
            _settle(held, LetterState.STORED, by)
            return held
        held.reason = reason[: intake.MOST_SAID]
        held.save(update_fields=["reason"])
    raise CannotRedrive(reason)


def discard(rows: QuerySet[DeadLetter], *, by: str) -> int:
    """Those of them that wait are wanted by nobody any more; returns how many. They stay, and can be tried again."""
    return rows.filter(state=LetterState.WAITING).update(
        state=LetterState.DISCARDED, settled_at=timezone.now(), settled_by=by
    )


def waiting() -> Mapping[str, int]:
    """How many wait, by source."""
    rows = DeadLetter.objects.filter(state=LetterState.WAITING).order_by().values("source").annotate(n=Count("pk"))
    return {row["source"]: row["n"] for row in rows}


def _settle(row: DeadLetter, state: LetterState, by: str) -> None:
    row.state, row.settled_by, row.settled_at = state, by, timezone.now()
    row.save(update_fields=["state", "settled_by", "settled_at", "event"])


def _feed(row: DeadLetter) -> Hook:
    source = Source.objects.filter(name=row.source).first()
    if source is None:
        raise CannotRedrive(f"There is no source {row.source} any more.")
    found = catalogue.hook(source)
    if not isinstance(found.adapter, Broker):
        raise CannotRedrive(found.problem or f"The source {row.source} consumes from no broker any more.")
    if not row.whole:
        raise CannotRedrive(f"Only the first {len(row.body):,} of its {row.size:,} bytes were kept.")
    return found


def _message(row: DeadLetter) -> Message:
    return Message(bytes(row.body), row.position, row.headers, row.content_type, row.about)
