"""Set-wise questions and changes that the ORM cannot say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from django.db import connection, models
from psycopg.types.json import Jsonb

from project.due import DueQuerySet

if TYPE_CHECKING:
    # only for the querysets' types: models import this module
    from workflows.models import Record, StepRun  # noqa: F401

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


@dataclass(frozen=True, slots=True)
class Lease:
    """What a performer makes of a step that it has locked: its attempt number `attempts`, for `seconds`."""

    uid: UUID
    attempts: int
    seconds: float


SIDE: Final = "coalesce(lower(substring(input ->> 'url' FROM '^[^:/]+://([^/?#]+)')), action)"
"""The far side of a step, in SQL: the host of its `url`, or where it has none, its action."""


class StepRunQuerySet(DueQuerySet["StepRun"]):
    """What performers ask of steps."""

    def lock_due(self, lane: str, most: int, *, rooms: Mapping[str, int], room: int) -> tuple[dict[UUID, str], bool]:
        """Lock up to `most` due steps of a lane, with turns between far sides; returns each one's far side by its uid.

        `rooms` says how many each far side may be given, `room` how many those that it does not name. The second value:
        whether there may be more to take at once. Lasts until the end of the transaction.
        """
        full = [side for side, left in rooms.items() if left <= 0]
        looked_at = 2 * most
        # The ORM has no lock beside a window function. The rows that are passed over here are locked, too, so that two
        # performers look at different ones.
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                WITH due AS MATERIALIZED (
                    SELECT uid, due_at, {SIDE} AS side FROM workflows_steprun
                    WHERE lane = %(lane)s AND due_at <= now()
                        AND (%(full)s::text[] = '{{}}' OR {SIDE} <> ALL (%(full)s))
                    ORDER BY due_at LIMIT %(looked_at)s FOR NO KEY UPDATE SKIP LOCKED
                ), placed AS (
                    SELECT uid, due_at, side, row_number() OVER (PARTITION BY side ORDER BY due_at) AS place FROM due
                )
                SELECT uid, side, (SELECT count(*) FROM due) FROM placed
                WHERE place <= coalesce((%(rooms)s::jsonb ->> side)::int, %(room)s)
                ORDER BY place, due_at LIMIT %(most)s
                """,
                {
                    "lane": lane,
                    "full": full,
                    "looked_at": looked_at,
                    "rooms": json.dumps(rooms),
                    "room": room,
                    "most": most,
                },
            )
            rows = cursor.fetchall()
        seen = rows[0][2] if rows else 0
        return {uid: side for uid, side, _ in rows}, seen >= looked_at or seen > len(rows)

    def take(self, leases: Sequence[Lease]) -> None:
        """Make these steps somebody's until the lease ends. They must be locked."""
        with connection.cursor() as cursor:
            # Each row has its own time, which the ORM's update cannot give it.
            cursor.execute(
                """
                UPDATE workflows_steprun AS step
                SET state = 'running', attempts = lease.attempts, due_at = now() + make_interval(secs => lease.seconds),
                    started_at = coalesce(started_at, now())
                FROM jsonb_to_recordset(%s::jsonb) AS lease(uid uuid, attempts int, seconds float8)
                WHERE step.uid = lease.uid
                """,
                [json.dumps([asdict(lease) for lease in leases], default=str)],
            )


def _columns(addresses: Iterable[Address]) -> list[list[str]]:
    pairs = list(addresses)
    return [[collection for collection, _ in pairs], [key for _, key in pairs]]
