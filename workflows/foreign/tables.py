"""Tables of another database as they are found there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, MetaData, Table, UniqueConstraint, exc, inspect

from project.databases import Database
from project.names import unknown
from workflows.foreign import Refused

_MOST_REMEMBERED: Final = 500

_tables: dict[tuple[Engine, str], Table] = {}


def table_of(database: Database, connection: Connection, name: str, *, fresh: bool = False) -> Table:
    """The table `schema.table` or `table`; a remembered one unless it should be `fresh`. Raises Refused."""
    place = (connection.engine, name)
    table = None if fresh else _tables.get(place)
    if table is None:
        schema, _, bare = name.rpartition(".")
        try:
            table = Table(bare, MetaData(), schema=schema or None, autoload_with=connection, resolve_fks=False)
        except exc.NoSuchTableError as error:
            known = inspect(connection).get_table_names(schema or None)
            names = [f"{schema}.{one}" for one in known] if schema else known
            raise Refused([("table", unknown(f"table of {database.name}", name, names))]) from error
        if connection.dialect.name == "sqlite":  # whose constraints SQLAlchemy reads from texts, and misses some
            for index in inspect(connection).get_indexes(bare, schema or None, include_auto_indexes=True):
                if index["unique"] and "sqlite_where" not in index.get("dialect_options", {}):
                    table.append_constraint(UniqueConstraint(*(name for name in index["column_names"] if name)))
        if len(_tables) >= _MOST_REMEMBERED:
            _tables.clear()
        _tables[place] = table
    return table


def forget(connection: Connection, name: str) -> None:
    """Look at the table again next time: it may have changed."""
    _tables.pop((connection.engine, name), None)


@lru_cache
def unique_keys(table: Table) -> list[frozenset[str]]:
    """The sets of columns that can hold each combination of values only once."""
    found = [frozenset(table.primary_key.columns.keys())]
    found += [
        frozenset(constraint.columns.keys())
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    found += [
        frozenset(index.columns.keys())
        for index in table.indexes
        if index.unique
        and len(index.columns) == len(index.expressions)
        and index.dialect_options["postgresql"].get("where") is None
        and index.dialect_options["sqlite"].get("where") is None
        and not index.dialect_options["mysql"].get("length")
    ]
    return list(dict.fromkeys(names for names in found if names))


def needs_value(column: Column[Any]) -> bool:
    """Whether a new row cannot do without a value for the column."""
    return not (
        column.nullable
        or column.server_default is not None
        or column.computed is not None
        or column.identity is not None
        or column is column.table.autoincrement_column
    )
