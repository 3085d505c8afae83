"""Compiled configuration, kept per process and made again when a row of the configuration changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from django.db.migrations import RunSQL

from project import prepared

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_seen: tuple[int, float] = (-1, 0.0)  # the revision last seen, and when


class Cached(Protocol[T_co]):
    def __call__(self, *, max_age: float = 0.0) -> T_co: ...


def cached(load: Callable[[], T]) -> Cached[T]:
    """Keep what `load()` makes of the configuration until the configuration changes.

    The result takes `max_age` in seconds: how old the knowledge that nothing changed may be; 0 asks PostgreSQL now, one
    tiny query. In a transaction that itself changed the configuration nothing is kept, for it may be rolled back.
    """
    lock = threading.Lock()
    kept: tuple[int, T] | None = None

    def current(*, max_age: float = 0.0) -> T:
        nonlocal kept
        number = _recent_revision(max_age)
        if number is None:
            return load()
        with lock:
            if kept is None or kept[0] != number:
                # The number was read before the rows: what changes in between has another, and the next call sees it.
                kept = (number, load())
            return kept[1]

    return current


def _recent_revision(max_age: float) -> int | None:
    number, at = _seen
    return number if max_age and number >= 0 and time.monotonic() - at < max_age else _revision()


def _revision() -> int | None:
    """The configuration's number now; None when the current transaction itself changed it."""
    global _seen
    rows = prepared.execute("SELECT number, current_setting('carillon.changed', true) = 'yes' FROM project_revision")
    number, changed_here = rows[0] if rows else (0, False)
    if changed_here:
        return None
    _seen = (number, time.monotonic())
    return int(number)


# Every change counts, by whatever hand: the admin, the API, a command, a shell. So PostgreSQL counts, not the code.
COUNT_CHANGES = RunSQL(
    """
    CREATE FUNCTION carillon_configuration_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- The transaction's own number: another one for every change, also after the row itself went with a TRUNCATE.
        INSERT INTO project_revision (id, number) VALUES (1, pg_current_xact_id()::text::bigint)
        ON CONFLICT (id) DO UPDATE SET number = excluded.number;
        PERFORM set_config('carillon.changed', 'yes', true);
        RETURN NULL;
    END $$;
    """,
    "DROP FUNCTION carillon_configuration_changed; DELETE FROM project_revision;",
)


def watch(table: str, columns: Sequence[str] = ()) -> RunSQL:
    """A migration's operation: a change of the table (of these columns, if any are named) changes the configuration."""
    of = f" OF {', '.join(columns)}" if columns else ""
    return RunSQL(
        f"CREATE TRIGGER configuration_changed AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE{of} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION carillon_configuration_changed()",
        f"DROP TRIGGER configuration_changed ON {table}",
    )
