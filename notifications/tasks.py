"""The Celery task of the notifications app."""

from notifications.models import Delivery
from notifications.sender import SLOTS, sender
from project.stage import Counts, stage


@stage("notifications.deliver", rows=lambda: Delivery.objects.all(), batch=SLOTS)
def deliver() -> Counts:
    return sender().drain()
