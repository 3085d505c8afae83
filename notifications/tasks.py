"""The Celery tasks of the notifications app."""

from notifications import recovery
from notifications.models import Delivery, Recovery
from notifications.sender import SLOTS, sender
from project.stage import Counts, stage


@stage("notifications.deliver", rows=lambda: Delivery.objects.all(), batch=SLOTS)
def deliver() -> Counts:
    return sender().drain()


@stage("notifications.recover", rows=lambda: Recovery.objects.all())
def recover() -> Counts:
    return recovery.drain()
