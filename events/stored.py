"""Stored events of some types, from new to old, a page at a time: as cheap in a table of millions as in a small one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from django.db import connection

from events.models import Event
from project.reading import reading, values_of


def types() -> list[str]:
    """The types that stored events have. Raises Busy."""
    with reading():
        return values_of(Event, "type")


NOTHING: Final = UUID(int=0)
EVERYTHING: Final = UUID(int=2**128 - 1)  # no uid is greater


def page(of: Sequence[str], *, since: UUID = NOTHING, before: UUID = EVERYTHING, most: int) -> list[Event]:
    """The newest of these types' events with a uid from `since` on and below `before`, at most so many.

    Only while `reading`: the statement relies on what that sets.
    """
    with connection.cursor() as cursor:
        cursor.execute(_PAGE, {"types": list(of), "since": since, "before": before, "most": most})
        uids = [uid for (uid,) in cursor.fetchall()]
    return list(Event.objects.filter(pk__in=uids).defer("verdicts", "error").order_by("-uid"))


# For each type a stretch of its index, never the table. The ORM would ask for all types at once, in the order of the
# uid, and PostgreSQL would walk over all events there are to find some of a rare type.
_PAGE: Final = """
SELECT found.uid FROM unnest(%(types)s::text[]) AS wanted (type) CROSS JOIN LATERAL (
    SELECT uid FROM events_event AS event
    WHERE event.type = wanted.type AND uid >= %(since)s AND uid < %(before)s ORDER BY uid DESC LIMIT %(most)s) AS found
ORDER BY found.uid DESC LIMIT %(most)s
"""
