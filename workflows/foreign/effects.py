"""What steps do in other databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sqlalchemy import Connection, exc

from project.databases import Database
from workflows.foreign import Refused
from workflows.foreign.columns import Change, Problems, read
from workflows.foreign.engines import engine_of, limit
from workflows.foreign.errors import told
from workflows.foreign.merge import merge
from workflows.foreign.once import once
from workflows.foreign.results import output, plain
from workflows.foreign.statement import Statement
from workflows.foreign.tables import forget, table_of

Json: TypeAlias = Any


def execute(database: Database, key: str, statement: Statement, parameters: Mapping[str, Json]) -> Json:
    """Run the statement; {"rows", "returned"}. Raises ForeignError, and ValueError for parameters that do not fit."""
    text, values = statement.bound(parameters)
    # Rows of a query are not collected before they are counted. PostgreSQL's cursors cannot read from what writes.
    options = {"stream_results": statement.verb in ("SELECT", "VALUES")}
    return once(
        database,
        key,
        lambda connection: output(connection.exec_driver_sql(text, values, execution_options=options)),
    )


def upsert(database: Database, key: str, table: str, given: Mapping[str, Json]) -> Json:
    """Change the row of the table with the given key, or add it; {"created", "key"}. Raises ForeignError."""

    def effect(connection: Connection) -> Json:
        change = _change(database, connection, table, given)
        try:
            created = merge(connection, table_of(database, connection, table), change)
        except exc.DBAPIError:
            forget(connection, table)
            raise
        return {"created": created, "key": plain(given["key"])}

    return once(database, key, effect)


def refusals(database: Database, table: str, given: Mapping[str, Json], later: Callable[[Json], bool]) -> Problems:
    """What is wrong with an upsert, as (path, message) pairs, as far as it is known. Raises ForeignError."""
    with told(database), engine_of(database).begin() as connection:
        limit(connection)
        try:
            return read(table_of(database, connection, table, fresh=True), given, later)[1]
        except Refused as error:
            return error.problems


def _change(database: Database, connection: Connection, table: str, given: Mapping[str, Json]) -> Change:
    for fresh in (False, True):  # a column may be new
        change, problems = read(table_of(database, connection, table, fresh=fresh), given, lambda value: False)
        if not problems:
            return change
    raise Refused(problems)
