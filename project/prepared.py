"""Statements that PostgreSQL parses and plans once for a session: the few that every event or batch passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor


def execute(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Execute the statement on Django's connection, in its transaction if there is one; returns the rows it gives back.

    Its parameters travel beside it instead of being written into it, and after a few times (DATABASE_PREPARE_AFTER) it
    is not planned again. So it must be the same text each time, and PostgreSQL must be able to tell the types of its
    parameters: `%s::jsonb`. Raises Django's database errors.

    Not for what looks for rows in a table that grows: a plan that was made when the table was small is kept until
    PostgreSQL analyzes it, a minute or more, in which every execution would read the whole table.
    """
    connection.ensure_connection()
    # Django's own cursors write the parameters into the statement, for all or none of what a connection executes; and
    # the ORM relies on it.
    own = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]  # django-stubs takes it for a mixin
    with connection._prepare_cursor(own) as cursor:  # type: ignore[attr-defined]
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []
