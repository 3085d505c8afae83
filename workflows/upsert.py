"""INSERT … ON CONFLICT DO UPDATE for many rows of any model, telling which were new."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import orjson
from django.db import connection, models
from django.db.models.expressions import DatabaseDefault
from psycopg import Binary
from psycopg.types.json import Jsonb

from project import prepared
from workflows.rows import Field, Model, fields

_NUMBER: Final = "row number"  # beside the columns, which no model calls so


@dataclass(frozen=True)
class Shape:
    """What rows that go into one statement have in common; all but the model are names of fields.

    A row that is there (with the same `key`) gets its `values` replaced and its `increment` added, if its value in
    `if_newer` is smaller or null. A row that is not there is made of all of them and the model's defaults.
    """

    model: Model
    key: tuple[str, ...]
    values: tuple[str, ...]
    increment: tuple[str, ...]
    if_newer: str | None


def upsert(shape: Shape, rows: Sequence[Mapping[str, Any]]) -> list[bool | None]:
    """Insert or update the rows, given as values by field name, whose keys must all differ.

    Tells for each whether it was inserted (True), updated (False), or left as it was because it is not newer (None).
    Rows are locked in the order of their keys, so that two batches do not wait for each other in a circle.
    """
    instances = [_instance(shape.model, row) for row in rows]
    columns = tuple(_inserted(shape.model, instances[0], rows[0]))
    table = [
        {field.column: field.get_db_prep_save(field.pre_save(instance, True), connection) for field in columns}
        | {_NUMBER: number}
        for number, instance in enumerate(instances)
    ]
    stored = prepared.execute(_statement(shape, columns), [orjson.dumps(table, default=_plain).decode()])
    created: dict[int, bool] = dict(stored)
    return [created.get(number) for number in range(len(rows))]


@lru_cache
def _statement(shape: Shape, columns: tuple[Field, ...]) -> str:
    # The ORM's upsert (bulk_create) can neither add, nor keep the newer row, nor tell which rows were new. One JSON
    # parameter costs less than an array per column, and carries arrays, too.
    names = ", ".join(map(_quoted, columns))
    types = ", ".join(f"{_quoted(field)} {field.db_type(connection)}" for field in columns)
    key = ", ".join(_quoted(fields(shape.model)[name]) for name in shape.key)
    kept = ", ".join(f"target.{_quoted(fields(shape.model)[name])}" for name in shape.key)
    return f"""
        WITH given AS (SELECT * FROM jsonb_to_recordset(%s::jsonb) AS given ({types}, "{_NUMBER}" int)),
        changed AS (
            INSERT INTO {connection.ops.quote_name(shape.model._meta.db_table)} AS target ({names})
            SELECT {names} FROM given ORDER BY {key}
            ON CONFLICT ({key}) DO UPDATE SET {_assignments(shape)} {_condition(shape)}
            RETURNING {kept}, xmax = 0 AS "is new"
        )
        SELECT "{_NUMBER}", "is new" FROM changed JOIN given USING ({key})
        """


def _instance(model: Model, row: Mapping[str, Any]) -> models.Model:
    return model(**{fields(model)[name].attname: value for name, value in row.items()})


def _inserted(model: Model, instance: models.Model, given: Collection[str]) -> list[Field]:
    """The columns of a new row: those given, and those with a default that Django knows."""
    return [
        field
        for name, field in fields(model).items()
        if name in given
        or not (isinstance(getattr(instance, field.attname), DatabaseDefault) or isinstance(field, models.AutoField))
    ]


def _plain(value: Any) -> Any:
    """What psycopg would be given, as JSON that PostgreSQL reads back as the column's type."""
    match value:
        case Jsonb():
            return value.obj
        case Binary():
            return "\\x" + bytes(value.obj).hex()
        case timedelta():
            return f"{value.total_seconds()} s"
    return str(value)


def _assignments(shape: Shape) -> str:
    replaced = [fields(shape.model)[name] for name in shape.values]
    replaced += [field for field in fields(shape.model).values() if getattr(field, "auto_now", False)]
    added = [_quoted(fields(shape.model)[name]) for name in shape.increment]
    if not replaced and not added:
        # Something must be assigned for the row to be locked and told.
        replaced = [fields(shape.model)[shape.key[0]]]
    return ", ".join(
        [f"{_quoted(field)} = EXCLUDED.{_quoted(field)}" for field in replaced]
        + [f"{column} = COALESCE(target.{column}, 0) + EXCLUDED.{column}" for column in added]
    )


def _condition(shape: Shape) -> str:
    if shape.if_newer is None:
        return ""
    column = _quoted(fields(shape.model)[shape.if_newer])
    return f"WHERE target.{column} IS NULL OR target.{column} < EXCLUDED.{column}"


def _quoted(field: Field) -> str:
    return connection.ops.quote_name(field.column or "")  # every concrete field has one
