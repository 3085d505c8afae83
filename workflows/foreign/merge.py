"""Change the row with a key or add it, in each dialect's own way."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, and_, exists, func, literal, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from workflows.foreign import Refused
from workflows.foreign.columns import Change
from workflows.foreign.tables import unique_keys


def merge(connection: Connection, table: Table, change: Change) -> bool:
    """True when the row was added, False when it was there. Raises Refused."""
    if connection.dialect.name == "mysql":
        return _mysql(connection, table, change)
    return _on_conflict(connection, table, change)


def _on_conflict(connection: Connection, table: Table, change: Change) -> bool:
    """Two statements, because none tells on every table (PostgreSQL's partitioned ones) whether the row is new."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).values(change.new_row)
    changes = _changes(table, change, insert.excluded)
    adding = insert.on_conflict_do_nothing(index_elements=list(change.key))
    if connection.execute(adding, execution_options={"preserve_rowcount": True}).rowcount == 1:
        return True
    if changes:
        connection.execute(insert.on_conflict_do_update(index_elements=list(change.key), set_=changes))
    return False


def _mysql(connection: Connection, table: Table, change: Change) -> bool:
    """ON DUPLICATE KEY is whichever unique key it is: it could change a row with another `key`."""
    if _is_there(connection, table, change):
        given = {name: literal(value, table.c[name].type) for name, value in change.new_row.items()}
        changes = _changes(table, change, given)
        if not changes or connection.execute(update(table).where(_has_key(table, change)).values(changes)).rowcount:
            return False
    insert = mysql.insert(table).values(change.new_row)
    unchanged = {name: table.c[name] for name in change.key}
    connection.execute(insert.on_duplicate_key_update(_changes(table, change, insert.inserted) or unchanged))
    if len(unique_keys(table)) > 1 and not _is_there(connection, table, change):
        others = " · ".join(", ".join(sorted(names)) for names in unique_keys(table) if names != frozenset(change.key))
        raise Refused([("values", f"another row of {table.fullname} has the same value in a unique column ({others})")])
    return True


def _changes(table: Table, change: Change, given: Any) -> dict[str, Any]:
    """What becomes of a row that is there; `given` has the values of the new one, by column."""
    replaced = {name: given[name] for name in change.values}
    added = {name: func.coalesce(table.c[name], 0) + given[name] for name in change.increment}
    return {**replaced, **added}


def _has_key(table: Table, change: Change) -> Any:
    return and_(*(table.c[name] == value for name, value in change.key.items()))


def _is_there(connection: Connection, table: Table, change: Change) -> bool:
    return bool(connection.scalar(select(exists().where(_has_key(table, change)))))
