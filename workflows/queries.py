"""Set-wise questions and changes that the ORM cannot say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from django.db import connection, models
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from workflows.models import Record  # noqa: F401  only for the queryset's type: models import this module

Json: TypeAlias = Any
Address: TypeAlias = tuple[str, str]  # collection and key of a record


class Stored(NamedTuple):
    """A record after a change: `value` as it is now (None when it was replaced), and whether the record is new."""

    version: int
    value: Json
    created: bool


class RecordQuerySet(models.QuerySet["Record"]):
    """Changes to many records, each in one statement."""

    def upsert(self, changes: Mapping[Address, tuple[Json, int]], *, replace: bool) -> dict[Address, Stored]:
        """Make the records that are not there with these values; count all their versions on by these numbers.

        The values of records that are there are replaced when `replace` says so, and otherwise only locked and told.
        They are locked in the order of their addresses, so that two batches do not wait for each other in a circle.
        """
        addresses = sorted(changes)
        with connection.cursor() as cursor:
            # The ORM's upsert can neither count a version on nor tell what it did.
            cursor.execute(
                f"""
                INSERT INTO workflows_record AS record (collection, key, value, version, updated_at)
                SELECT collection, key, value, version, statement_timestamp()
                FROM unnest(%s::text[], %s::text[], %s::jsonb[], %s::int[]) AS given (collection, key, value, version)
                ON CONFLICT (collection, key) DO UPDATE
                SET value = {"EXCLUDED" if replace else "record"}.value,
                    version = record.version + EXCLUDED.version, updated_at = EXCLUDED.updated_at
                RETURNING collection, key, version, {"NULL" if replace else "value"}, xmax = 0
                """,
                [
                    *_columns(addresses),
                    [Jsonb(changes[address][0]) for address in addresses],
                    [changes[address][1] for address in addresses],
                ],
            )
            return {
                (collection, key): Stored(version, None if value is None else json.loads(value), created)
                for collection, key, version, value, created in cursor.fetchall()
            }

    def set_values(self, values: Mapping[Address, Json]) -> None:
        """Replace the values of these records, which the caller has locked."""
        addresses = sorted(values)
        with connection.cursor() as cursor:
            # One statement for the batch; the ORM's bulk_update would send a CASE with a branch per row.
            cursor.execute(
                """
                UPDATE workflows_record AS record SET value = given.value
                FROM unnest(%s::text[], %s::text[], %s::jsonb[]) AS given (collection, key, value)
                WHERE record.collection = given.collection AND record.key = given.key
                """,
                [*_columns(addresses), [Jsonb(values[address]) for address in addresses]],
            )

    def remove(self, addresses: Iterable[Address]) -> dict[Address, int]:
        """Delete these records; returns the versions of those that were there."""
        with connection.cursor() as cursor:
            # The ORM's delete does not tell which rows were there.
            cursor.execute(
                """
                DELETE FROM workflows_record AS record
                USING unnest(%s::text[], %s::text[]) AS given (collection, key)
                WHERE record.collection = given.collection AND record.key = given.key
                RETURNING record.collection, record.key, record.version
                """,
                _columns(sorted(addresses)),
            )
            return {(collection, key): version for collection, key, version in cursor.fetchall()}


def _columns(addresses: Iterable[Address]) -> list[list[str]]:
    pairs = list(addresses)
    return [[collection for collection, _ in pairs], [key for _, key in pairs]]
