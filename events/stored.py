"""Stored events of some types, from new to old, a page at a time: as cheap in a table of millions as in a small one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from django.db import OperationalError, connection, transaction

from events.models import Event

SLOWEST: Final = 2000  # milliseconds that one statement may take


class Busy(OperationalError):
    """PostgreSQL did not answer in time. Trying again later may help."""


@contextmanager
def reading() -> Iterator[None]:
    """A short transaction that cannot write, and whose statements are ended when they take long. Raises Busy."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(_LOCAL, [str(SLOWEST)])
            yield
            # Nothing was written. What was set ends with that, also where this is a part of a larger transaction.
            transaction.set_rollback(True)
    except OperationalError as error:
        raise Busy("PostgreSQL did not answer in time.") from error


# Plans are weighed by the rows that they look at, not by pages. By pages PostgreSQL would look for the newest events of
# a type along the primary key, expecting to meet the type soon; of one that fell silent last month it meets none, and
# goes on for seconds where the index with the type takes a millisecond.
_LOCAL: Final = """
SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true),
    set_config('seq_page_cost', '0', true), set_config('random_page_cost', '0', true)
"""


def types() -> list[str]:
    """The types that stored events have. Raises Busy."""
    with reading(), connection.cursor() as cursor:
        cursor.execute(_TYPES)
        return [type_ for (type_,) in cursor.fetchall()]


# One look into the index for each type, where DISTINCT would read every event.
_TYPES: Final = """
WITH RECURSIVE found (type) AS (
    (SELECT type FROM events_event ORDER BY type LIMIT 1)
    UNION ALL
    SELECT (SELECT event.type FROM events_event AS event WHERE event.type > found.type ORDER BY event.type LIMIT 1)
    FROM found WHERE found.type IS NOT NULL)
SELECT type FROM found WHERE type IS NOT NULL
"""


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
