"""Sending again what failed in a channel, when the far side has been mended: any number, a batch at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from notifications.delivery import retry
from notifications.models import Channel, Delivery, DeliveryState, Recovery
from project import bounded
from project.doorbell import ring

BATCH: Final = 1_000  # deliveries made due again in one transaction
COUNTED: Final = 10_000


def lost(channel: Channel, since: datetime, until: datetime | None = None) -> QuerySet[Delivery]:
    """What failed for good in the channel in that time, the oldest failure first."""
    failed = Delivery.objects.filter(channel=channel, state=DeliveryState.FAILED, finished_at__gte=since)
    return (failed.filter(finished_at__lte=until) if until else failed).order_by("finished_at")


def recover(channel: Channel, since: datetime, by: str = "") -> Recovery:
    """Begin to send again what failed since then, with fresh schedules; the row tells how far that has come.

    What was handed to the fallback channel is sent again as well: it is for this channel's receiver.
    """
    found = bounded.count(lost(channel, since), COUNTED)
    recovery = Recovery.objects.create(channel=channel, since=since, found=found.n, started_by=by, due_at=Now())
    ring("notifications.recover", by)
    return recovery


def drain() -> dict[str, int]:
    """Make the next batch of one recovery due; says how many deliveries that were. Nothing when no recovery is due."""
    with transaction.atomic():
        claimed = Recovery.objects.claim(1)
        if not claimed:
            return {}
        (recovery,) = claimed
        batch = list(lost(recovery.channel, recovery.since, recovery.until).values_list("pk", flat=True)[:BATCH])
        sent = retry(Delivery.objects.filter(pk__in=batch))
        recovery.sent += sent
        if len(batch) < BATCH or not sent:
            recovery.due_at, recovery.finished_at = None, Now()
        recovery.save(update_fields=["sent", "due_at", "finished_at"])
    ring("notifications.deliver", "recovery")
    return {"recoveries": 1, "deliveries": sent}
