"""The admin's first page: what waits, what failed, what just happened. Only questions that an index answers."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from events.models import Event
from notifications.models import Channel, Delivery, DeliveryState
from project.stage import stages
from workflows.models import Run, RunState

SHOWN: Final = 8
SLOW: Final = 10.0  # seconds that a due row may wait before the page calls it a backlog

STAGES: Final = {
    "events.route": "Events to route",
    "workflows.advance": "Runs to advance",
    "workflows.perform": "Steps outside",
    "notifications.deliver": "Deliveries to send",
}


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What templates/admin/index.html shows."""
    may = request.user.has_perm
    context |= {
        "stages": [
            {"title": STAGES.get(name, name), "age": (age := stage.rows().backlog_age()), "slow": age > SLOW}
            for name, stage in sorted(stages.items())
        ],
        "flower_url": settings.FLOWER_URL,
        "inbox": settings.INBOX,
    }
    if may("events.view_event"):
        context["last_events"] = Event.objects.defer("data", "extensions")[:SHOWN]
    if may("workflows.view_run"):
        failed = Run.objects.filter(state=RunState.FAILED).select_related("workflow")
        context["failed_runs"] = failed.defer("input", "steps")[:SHOWN]
    if may("notifications.view_delivery"):
        lost = Delivery.objects.filter(state=DeliveryState.FAILED).select_related("channel")
        context["failed_deliveries"] = lost.defer("message")[:SHOWN]
    if may("notifications.view_channel"):
        context["troubled_channels"] = Channel.objects.filter(
            Q(hold_until__gt=timezone.now()) | Q(failing_since__isnull=False) | Q(enabled=False)
        ).defer("settings")
    return context
