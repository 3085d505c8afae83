"""Statements that PostgreSQL plans once for many executions: the few that every event or batch passes.

What looks for rows in a table that grows has to be planned anew now and then: a plan made while the table was small
reads all of it. So a session forgets its plans every FORGOTTEN_AFTER seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor

FORGOTTEN_AFTER: Final = 10.0  # in which a table that was empty takes in what can still be read in milliseconds

_here = threading.local()  # as Django's connections are


def execute(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Execute the statement on Django's connection, in its transaction if there is one; returns the rows it gives back.

    Its parameters travel beside it instead of being written into it, and after a few times (DATABASE_PREPARE_AFTER) it
    is not planned again. So it must be the same text each time, and PostgreSQL must be able to tell the types of its
    parameters: `%s::jsonb`. Raises Django's database errors.
    """
    with queries(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def queries() -> Iterator[None]:
    """What the ORM asks in this block is planned once, too. For queries whose text is the same each time."""
    connection.close_if_health_check_failed()  # as Django does before a cursor, which must come by the same session
    connection.ensure_connection()
    session = connection.connection
    if session.prepare_threshold is not None:
        _forget_old_plans()
    # Django's own cursors write the parameters into the statement, for all or none of what a connection executes.
    before, session.cursor_factory = session.cursor_factory, ServerBindingCursor
    try:
        yield
    finally:
        session.cursor_factory = before


def _forget_old_plans() -> None:
    now = time.monotonic()
    since = getattr(_here, "planned_since", None)
    if since is None or now - since > FORGOTTEN_AFTER:
        _here.planned_since = now
        if since is not None:
            with connection.cursor() as cursor:
                cursor.execute("DISCARD PLANS")
