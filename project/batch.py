"""Together, or one by one: a batch that fails is undone and done again row by row, so that only the bad row fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import structlog
from django.db import Error as DatabaseError
from django.db import connection, transaction

T = TypeVar("T")
R = TypeVar("R")

log = structlog.get_logger(__name__)


def together_or_alone(rows: Sequence[T], together: Callable[[Sequence[T]], R], alone: Callable[[T], R]) -> list[R]:
    """`[together(rows)]`, or when that raises, `alone(row)` for each row. Each is undone by itself when it raises.

    Takes place inside the caller's transaction, which holds the rows' locks. `alone` turns what a row can do wrong into
    a result; what it raises all the same, and the loss of the connection, goes up and rolls everything back.
    """
    try:
        with transaction.atomic():
            check_constraints_at_once()
            return [together(rows)]
    except Exception as error:  # anything a row brings along: a filter, an action, a constraint
        raise_if_disconnected(error)
        log.info("batch failed, doing it one by one", rows=len(rows), error=" ".join(str(error).split())[:300])
    return list(_each(rows, alone))


def _each(rows: Iterable[T], alone: Callable[[T], R]) -> Iterable[R]:
    for row in rows:
        with transaction.atomic():
            check_constraints_at_once()
            yield alone(row)


def check_constraints_at_once() -> None:
    """Let deferred constraints (Django's foreign keys) speak at the statement at fault, not at the commit of all."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def is_transient(error: BaseException) -> bool:
    """Whether PostgreSQL says "not now": a deadlock, a serialization failure, a lock that was not to be had."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    state = getattr(cause, "sqlstate", None) or ""
    return state.startswith("40") or state == "55P03"


def is_disconnected() -> bool:
    """Whether the connection is gone."""
    session = connection.connection
    return session is None or session.closed or session.broken


def raise_if_disconnected(error: Exception) -> None:
    """Raise `error` when the connection is gone: then nothing can be recorded, and all of it is done again."""
    if is_disconnected():
        raise error
