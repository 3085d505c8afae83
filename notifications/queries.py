"""Set-wise statements on deliveries and their lanes: store many, take a fair share of what is due, record outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson
from django.db import connection, models
from django.utils import timezone

from notifications.lanes import Health
from project import prepared
from project.due import COUNTED, LONGEST_WAIT, DueQuerySet

if TYPE_CHECKING:
    from notifications.models import Channel, Delivery, Recovery  # noqa: F401  named in strings


# Of notifications_channel AS channel. A disabled one is served although it is paused: what waits in it is written off.
SERVED: Final = "(channel.paused_at IS NULL OR NOT channel.enabled)"
HELD_BY_NOBODY: Final = f"{SERVED} AND (channel.hold_until IS NULL OR channel.hold_until <= now())"

# Not EXISTS: that may become a join, which reads all that is due in all lanes.
ANY_DUE: Final = "(SELECT true FROM notifications_delivery WHERE channel_id = channel.id AND due_at <= now() LIMIT 1)"


@dataclass(frozen=True, slots=True)
class Quota:
    """What one lane may be given now."""

    lane: int  # the channel's id
    most: int  # rows
    under_way: int  # rows under way at once, over all processes
    lease: float  # seconds
    interval: float  # seconds that each row moves the lane's `next_at` on


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that is ours until its lease ends."""

    uid: UUID
    lane: int
    to: str
    message: dict[str, Any]
    attempt: int
    forgiven: int
    created_at: datetime
    allowed: int  # how many its lane might have been given with it


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a leased delivery. `tried` is False where no attempt was made."""

    uid: UUID
    attempt: int
    state: str
    reason: str = ""
    delay: float = 0.0  # seconds until the next attempt, for a delivery that stays pending
    tried: bool = True
    forgive: int = 0  # attempts that no longer count
    outcome: str = ""
    status: int | None = None
    response: str = ""
    ms: int = 0
    age: float = 0.0  # seconds since the attempt began


@dataclass(frozen=True, slots=True)
class Lane:
    """A channel's lane, locked."""

    id: int
    name: str
    next_at: datetime
    health: Health


class ChannelQuerySet(models.QuerySet["Channel"]):
    """The lanes of channels. Both locks last until the end of the transaction and let deliveries be added meanwhile."""

    def lock_due_lanes(self) -> tuple[list[Lane], datetime]:
        """Lock the lanes with due deliveries, but for those that somebody else has locked; and the time it is.

        Paused lanes are left out: nothing is taken from them.
        """
        # By hand because it runs for every bell: the ORM takes longer to write it than PostgreSQL to do it.
        return self._lock(
            f"{SERVED} AND {ANY_DUE}",
            [],
            "SKIP LOCKED",
        )

    def lock_lanes(self, ids: Sequence[int]) -> tuple[list[Lane], datetime]:
        """Lock these lanes, after whoever holds them; and the time it is."""
        return self._lock("id = ANY (%s::bigint[])", [list(ids)], "")

    def _lock(self, which: str, parameters: list[Any], how: str) -> tuple[list[Lane], datetime]:
        rows = prepared.execute(
            f"""
            SELECT id, name, next_at, enabled, failures, failing_since, hold_until, hold_reason, now()
            FROM notifications_channel AS channel WHERE {which} ORDER BY id FOR NO KEY UPDATE {how}
            """,
            parameters,
        )
        locked = [Lane(id_, name, next_at, Health(*health)) for id_, name, next_at, *health, _ in rows]
        return locked, rows[0][-1] if rows else timezone.now()


class DeliveryQuerySet(DueQuerySet["Delivery"]):
    """Questions about deliveries, and the statements for many of them at once."""

    def add(self, deliveries: Sequence[Delivery]) -> dict[UUID, Delivery]:
        """Store them; returns what is stored for each, by the uid it was made with.

        One that was stored before (the same origin, channel and address) is not stored again: the earlier one is
        returned in its place. A second stand-in for one delivery is left out. A pending one is due at its `due_at`,
        without that at once.
        """
        if not deliveries:
            return {}
        rows = [
            {
                "uid": row.uid,
                "channel_id": row.channel_id,
                "kind": row.kind,
                "to": row.to,
                "recipient_id": row.recipient_id,
                "origin": row.origin,
                "template": row.template,
                "category": row.category,
                "priority": row.priority,
                "dedupe_key": row.dedupe_key,
                "message": row.message,
                "state": row.state,
                "reason": row.reason,
                "instead_of": row.instead_of,
                "due_at": row.due_at,
            }
            for row in deliveries
        ]
        # bulk_create(ignore_conflicts=True) takes ten times as long and does not say which rows were new.
        stored_now = prepared.execute(
            """
                INSERT INTO notifications_delivery (uid, channel_id, kind, "to", recipient_id, origin, template,
                    category, priority, dedupe_key, message, state, reason, instead_of, due_at, finished_at,
                    attempts, forgiven, leased, created_at)
                SELECT uid, channel_id, kind, "to", recipient_id, origin, template, category,
                    priority, dedupe_key, message, state, reason, instead_of,
                    CASE WHEN state = 'pending' THEN coalesce(due_at, now()) END,
                    CASE WHEN state <> 'pending' THEN now() END,
                    0, 0, false, now()
                FROM jsonb_to_recordset(%s::jsonb) AS new(uid uuid, channel_id bigint, kind text, "to" text,
                    recipient_id bigint, origin uuid, template text, category text, priority text, dedupe_key text,
                    message jsonb, state text, reason text, instead_of uuid, due_at timestamptz)
                ON CONFLICT DO NOTHING
                RETURNING uid, due_at, created_at, finished_at
                """,
            [orjson.dumps(rows, default=str).decode()],
        )
        times = {uid: rest for uid, *rest in stored_now}
        for row in deliveries:
            if row.uid in times:
                row.due_at, row.created_at, row.finished_at = times[row.uid]
                row._state.adding = False
        stored = {row.uid: row for row in deliveries if row.uid in times}
        others = [row for row in deliveries if row.uid not in times]
        return stored | self._earlier(others) if others else stored

    def _earlier(self, deliveries: Sequence[Delivery]) -> dict[UUID, Delivery]:
        rows = self.filter(origin__in={row.origin for row in deliveries if row.origin})
        by_key = {(row.origin, row.channel_id, row.to): row for row in rows}
        found = ((row.uid, by_key.get((row.origin, row.channel_id, row.to))) for row in deliveries)
        return {uid: row for uid, row in found if row is not None}

    def take(self, quotas: Sequence[Quota]) -> list[Leased]:
        """Lease due deliveries lane by lane, the longest due first. The lanes' channels must be locked.

        Each lane gets its quota, less what is under way in it already; `next_at` moves on by what it got.
        """
        # The ORM has neither LATERAL nor UPDATE … RETURNING. `uid = ANY (ARRAY(…))` rather than a join keeps the
        # planner from reading the whole table when it expects many rows.
        taken = prepared.execute(
            """
            WITH quota AS MATERIALIZED (
                SELECT lane, lease, interval, greatest(0, least(most, under_way - (
                    SELECT count(*) FROM notifications_delivery
                    WHERE channel_id = lane AND leased AND due_at > now()))) AS allowed
                FROM jsonb_to_recordset(%s::jsonb)
                    AS q(lane bigint, most int, under_way int, lease float8, interval float8)
            ), taken AS (
                SELECT due.uid FROM quota CROSS JOIN LATERAL (
                    SELECT uid FROM notifications_delivery
                    WHERE channel_id = quota.lane AND due_at <= now()
                    ORDER BY due_at
                    LIMIT quota.allowed
                    FOR UPDATE SKIP LOCKED
                ) AS due
            ), ours AS (
                UPDATE notifications_delivery AS delivery
                SET due_at = now() + make_interval(secs => quota.lease), attempts = attempts + 1, leased = true
                FROM quota
                WHERE delivery.uid = ANY (ARRAY(SELECT uid FROM taken)) AND delivery.channel_id = quota.lane
                RETURNING uid, channel_id, "to", message, attempts, forgiven, created_at, quota.allowed
            ), served AS (
                UPDATE notifications_channel AS channel
                SET next_at = greatest(next_at, now()) + make_interval(secs => got.rows * quota.interval)
                FROM quota JOIN (SELECT channel_id, count(*) AS rows FROM ours GROUP BY channel_id) AS got
                    ON got.channel_id = quota.lane
                WHERE channel.id = quota.lane
            )
            SELECT uid, channel_id, "to", message::text, attempts, forgiven, created_at, allowed FROM ours
            """,
            [orjson.dumps(quotas).decode()],
        )
        return [
            Leased(uid, lane, to, orjson.loads(message), attempt, forgiven, created_at, allowed)
            for uid, lane, to, message, attempt, forgiven, created_at, allowed in taken
        ]

    def record(self, records: Iterable[Record]) -> set[UUID]:
        """Store the attempts, and move those deliveries on that are still ours; returns these.

        Whoever lost its lease, or was cancelled meanwhile, moves nothing; that the attempt was made stays true.
        """
        # Two bulk statements in one round trip; the ORM would take one per row for the first. The arrays are for the
        # planner, as in `take`.
        moved = prepared.execute(
            """
            WITH record AS MATERIALIZED (
                SELECT * FROM jsonb_to_recordset(%s::jsonb) AS r(uid uuid, attempt int, state text, reason text,
                    delay float8, tried bool, forgive int, outcome text, status int, response text, ms int,
                    age float8)
            ), moved AS (
                UPDATE notifications_delivery AS delivery
                SET state = record.state, reason = record.reason, leased = false,
                    attempts = CASE WHEN tried THEN attempts ELSE attempts - 1 END,
                    forgiven = forgiven + forgive,
                    due_at = CASE WHEN record.state = 'pending'
                        THEN now() + make_interval(secs => record.delay) END,
                    finished_at = CASE WHEN record.state <> 'pending' THEN now() END
                FROM record
                WHERE delivery.uid = ANY (ARRAY(SELECT uid FROM record))
                    AND delivery.uid = record.uid AND delivery.attempts = record.attempt
                    AND delivery.leased AND delivery.state = 'pending'
                RETURNING delivery.uid
            ), tries AS (
                INSERT INTO notifications_attempt (delivery_id, number, at, outcome, status, response, ms)
                SELECT uid, attempt, now() - make_interval(secs => age), outcome, status, response, ms
                FROM record
                WHERE tried AND uid IN (
                    SELECT uid FROM notifications_delivery WHERE uid = ANY (ARRAY(SELECT uid FROM record)))
                ON CONFLICT DO NOTHING
            )
            SELECT uid FROM moved
            """,
            [orjson.dumps(list(records)).decode()],
        )
        return {uid for (uid,) in moved}

    def any_due(self) -> bool:
        """As for other rows, but without the lanes that are paused: nobody has to be rung for those."""
        with connection.cursor() as cursor:
            # A look into each lane, where the ORM would read past everything that waits in paused ones.
            cursor.execute(
                f"""
                SELECT EXISTS (SELECT FROM notifications_channel AS channel WHERE {SERVED} AND {ANY_DUE})
                """
            )
            (found,) = cursor.fetchone() or (False,)
        return bool(found)

    def backlog_age(self) -> float:
        """Seconds the longest waiting due delivery has waited, in lanes that are not held back on purpose."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                SELECT extract(epoch FROM now() - min(oldest.due_at)) FROM notifications_channel AS channel
                CROSS JOIN LATERAL (SELECT min(due_at) AS due_at FROM notifications_delivery
                    WHERE channel_id = channel.id AND due_at <= now()) AS oldest
                WHERE {HELD_BY_NOBODY}
                """
            )
            (age,) = cursor.fetchone() or (None,)
        return float(age or 0.0)

    def overdue(self) -> int:
        """As for other rows, but without the lanes that are held back on purpose."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                SELECT count(*) FROM (
                    SELECT FROM notifications_channel AS channel
                    CROSS JOIN LATERAL (SELECT FROM notifications_delivery
                        WHERE channel_id = channel.id AND due_at < now() - make_interval(secs => %s) LIMIT %s) AS late
                    WHERE {HELD_BY_NOBODY} LIMIT %s
                ) AS counted
                """,
                [LONGEST_WAIT.total_seconds(), COUNTED, COUNTED],
            )
            (number,) = cursor.fetchone() or (0,)
        return int(number)


class RecoveryQuerySet(DueQuerySet["Recovery"]):
    """Recoveries are due until they have come to their end."""
