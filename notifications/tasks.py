"""The Celery task of the notifications app, and the sender's end when a worker ends."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_shutdown, worker_shutting_down

from notifications.models import Delivery
from notifications.sender import SLOTS, sender
from project.stage import Counts, stage


@stage("notifications.deliver", rows=lambda: Delivery.objects.all(), batch=SLOTS)
def deliver() -> Counts:
    return sender().drain()


@worker_shutting_down.connect
def _finish(**kwargs: Any) -> None:
    sender().stop_claiming()


@worker_shutdown.connect
def _end(**kwargs: Any) -> None:
    sender().stop()
