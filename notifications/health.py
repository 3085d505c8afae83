"""How channels fare: what arrived, what failed and why, who is slow. Each answer looks at so many rows and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from notifications.models import Attempt, Channel, Delivery, DeliveryState, Outcome
from project.bounded import MOST, Count, Group, count, groups
from project.identifiers import first_uid_at

DAY: Final = timedelta(days=1)
WITHIN: Final = {"hour": timedelta(hours=1), "day": DAY}
ERRORS: Final = 8
SLOWEST: Final = 6


def word(channel: Channel) -> str:
    """How it is, in a word."""
    if not channel.enabled:
        return "disabled"
    if channel.paused_at:
        return "paused"
    if channel.hold_until and channel.hold_until > timezone.now():
        return "on hold"
    return "failing" if channel.failing_since else "healthy"


@dataclass(frozen=True)
class Fared:
    """What became of the deliveries that a channel was given in a time; of the newest MOST where there were more."""

    delivered: Count
    failed: Count
    pending: Count

    @property
    def success(self) -> float | None:
        """Percent of those that came to an end that arrived; None: none did."""
        ended = self.delivered.n + self.failed.n
        return 100 * self.delivered.n / ended if ended else None


def fared(channel: Channel, within: timedelta) -> Fared:
    """Of what was made in that time."""
    rows = Delivery.objects.filter(channel=channel, uid__gte=first_uid_at(timezone.now() - within)).order_by("-uid")
    states = list(rows.values_list("state", flat=True)[: MOST + 1])
    numbers, more = Counter(states[:MOST]), len(states) > MOST
    return Fared(
        *(
            Count(numbers[state], more)
            for state in (DeliveryState.DELIVERED, DeliveryState.FAILED, DeliveryState.PENDING)
        )
    )


def waiting(channel: Channel) -> Count:
    """How many deliveries have not come to their end, whenever they were made."""
    return count(Delivery.objects.filter(channel=channel, due_at__isnull=False))


def errors(channel: Channel) -> Sequence[Attempt]:
    """The latest attempts that failed, at the newest MOST deliveries of the last day."""
    newest = Delivery.objects.filter(channel=channel, uid__gte=first_uid_at(timezone.now() - DAY)).order_by("-uid")
    failed = Attempt.objects.filter(delivery__in=list(newest.values_list("uid", flat=True)[:MOST]))
    latest = failed.exclude(outcome=Outcome.DELIVERED).select_related("delivery").defer("delivery__message")
    return list(latest.order_by("-at")[:ERRORS])


def failures() -> Sequence[Group]:
    """What failed for good of the deliveries made in the last day, by the channel's key; `first` is the newest."""
    failed = Delivery.objects.filter(state=DeliveryState.FAILED, uid__gte=first_uid_at(timezone.now() - DAY))
    return groups(failed.order_by("-uid"), "channel_id")


@dataclass(frozen=True)
class Pace:
    """How long a channel's attempts took, in milliseconds."""

    channel: int
    name: str
    attempts: int
    half: int
    most: int  # but for one in twenty
    longest: int


def slowest(within: timedelta = timedelta(hours=1)) -> Sequence[Pace]:
    """The channels whose attempts take longest, by the newest MOST attempts at deliveries made in that time."""
    with connection.cursor() as cursor:
        # The ORM has no percentiles, and no LIMIT before a join.
        cursor.execute(
            """
            WITH latest AS MATERIALIZED (SELECT delivery_id, ms FROM notifications_attempt
                WHERE delivery_id >= %s ORDER BY delivery_id DESC LIMIT %s)
            SELECT channel.id, channel.name, count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY ms),
                percentile_disc(0.95) WITHIN GROUP (ORDER BY ms) AS most, max(ms)
            FROM latest JOIN notifications_delivery ON uid = delivery_id
                JOIN notifications_channel AS channel ON channel.id = channel_id
            GROUP BY channel.id ORDER BY most DESC, channel.name LIMIT %s
            """,
            [first_uid_at(timezone.now() - within), MOST, SLOWEST],
        )
        return [Pace(*row) for row in cursor.fetchall()]
