"""JSON values as the columns of a table take them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import lru_cache
from typing import Any, Final, TypeAlias

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from sqlalchemy import Column, Numeric, Table
from sqlalchemy.types import Integer

from project.fields import shown
from project.names import unknown
from workflows.foreign.tables import needs_value, unique_keys

Json: TypeAlias = Any
Problems: TypeAlias = list[tuple[str, str]]

SECTIONS: Final = ("key", "values", "increment")

UNKNOWN: Final = object()
"""Stands for a value that is not known before the step runs."""


@dataclass
class Change:
    """What a step says of a row, by the names of columns, in their types."""

    key: dict[str, Any]
    values: dict[str, Any]
    increment: dict[str, Any]

    @property
    def new_row(self) -> dict[str, Any]:
        return {**self.key, **self.values, **self.increment}


def read(table: Table, given: Mapping[str, Json], later: Callable[[Json], bool]) -> tuple[Change, Problems]:
    """The change that `given` (key, values, increment) means, as far as it is known, and what is wrong with it."""
    change = Change({}, {}, {})
    problems: Problems = []
    known = True
    for section in SECTIONS:
        written = given.get(section) or {}
        if isinstance(written, str):  # all of it is one expression
            known = False
            continue
        taken = getattr(change, section)
        for name, value in written.items():
            taken[name] = UNKNOWN
            if name not in table.c:
                problems.append(
                    (f"{section}.{name}", unknown(f"column of {table.fullname}", name, list(table.c.keys())))
                )
            elif section == "increment" and not isinstance(table.c[name].type, Numeric | Integer):
                problems.append((f"{section}.{name}", "only numbers can be incremented"))
            elif value is None and section != "values":
                problems.append((f"{section}.{name}", "cannot be null"))
            elif not later(value):
                try:
                    taken[name] = taken_by(table.c[name], value)
                except ValueError as error:
                    problems.append((f"{section}.{name}", str(error)))
    if known and not problems:
        problems = _misfits(table, change)
    return change, problems


def taken_by(column: Column[Any], value: Json) -> Any:
    """The value in the column's type. Raises ValueError with why it is none."""
    if value is None:
        if not column.nullable:
            raise ValueError("cannot be null")
        return None
    kind = _kind(column)
    if kind in (None, str) and isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    if kind is None or kind is dict:  # of a type that only the database knows, or JSON
        return value
    if kind is bytes:
        return _bytes(value)
    try:
        taken = _adapter(kind).validate_python(_meant(value))
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{shown(value)} is no value for {column.type}: {message}") from error
    if isinstance(taken, datetime | time):
        return _in_zone(taken, has_zone=getattr(column.type, "timezone", False))
    return taken


def _misfits(table: Table, change: Change) -> Problems:
    """What is wrong with the change as a whole."""
    problems: Problems = []
    unique = unique_keys(table)
    if frozenset(change.key) not in unique:
        known = " · ".join(", ".join(sorted(names)) for names in unique) or "none"
        problems.append(("key", f"these columns are not unique in {table.fullname}; unique are: {known}"))
    for name in change.values.keys() & change.increment.keys():
        problems.append((f"increment.{name}", "stands in `values` as well; it can be set or incremented, not both"))
    for name in change.key:
        if name in change.values or name in change.increment:
            problems.append((f"key.{name}", "stands in `values` or `increment` as well; a key is not changed"))
    for column in table.c:
        if column.name not in change.new_row and needs_value(column):
            problems.append(
                (f"values.{column.name}", "this column needs a value: it has no default and cannot be null")
            )
    return problems


def _kind(column: Column[Any]) -> type | None:
    try:
        return column.type.python_type
    except NotImplementedError:
        return None


@lru_cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True))


def _meant(value: Json) -> Json:
    """What a person meant: 0.1 + 0.2 is 0.3. Every decimal of 15 digits survives the way through a double."""
    return float(f"{value:.15g}") if isinstance(value, float) else value


def _bytes(value: Json) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"{shown(value)} should be bytes in base64") from error


def _in_zone(moment: datetime | time, *, has_zone: bool) -> datetime | time:
    """A moment that says its zone for a column that keeps it, and one in UTC for a column that does not."""
    if isinstance(moment, time):
        return moment
    if has_zone:
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
