"""The admin's first page: what waits, what failed, what just happened. Only questions that an index answers."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib.admin import site
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from events.models import Event
from notifications.models import Channel, Delivery, DeliveryState
from project.ledger import Balance, balances
from project.stage import stages
from workflows.models import Run, RunState

SHOWN: Final = 8
SLOW: Final = 10.0  # seconds that a due row may wait before the page calls it a backlog

STAGES: Final = {
    "events.route": "Events to route",
    "events.replay": "Replays to route",
    "events.schedule": "Schedules to fire",
    "workflows.advance": "Runs to advance",
    "workflows.close": "Gates to remove",
    "workflows.request": "Steps that wait for the network",
    "workflows.perform": "Steps of ordinary code",
    "notifications.deliver": "Deliveries to send",
}


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What templates/admin/index.html shows."""
    may = request.user.has_perm
    context |= {
        "stages": [
            {
                "title": STAGES.get(name, name),
                "age": (age := stage.rows().backlog_age()),
                "slow": age > SLOW,
                "overdue": stage.rows().overdue(),
            }
            for name, stage in sorted(stages.items())
        ],
        "ledger": (ledger := balances()),
        "unbalanced": [_unbalanced(request, balance) for balance in ledger if balance.difference],
        "audited_at": min((balance.as_of for balance in ledger if balance.as_of), default=None),
        "unaudited": [balance for balance in ledger if balance.unaudited],
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


def _unbalanced(request: HttpRequest, balance: Balance) -> dict[str, Any]:
    """A sum with its rows at fault, each with the address of its page for who may see it."""
    opts = balance.sum.opened._meta
    may = request.user.has_perm(f"{opts.app_label}.view_{opts.model_name}") and balance.sum.opened in site._registry
    page = f"admin:{opts.app_label}_{opts.model_name}_change"
    faults = [(fault, reverse(page, args=[fault.uid]) if may else "") for fault in balance.faults[:SHOWN]]
    return {"balance": balance, "model": opts.verbose_name, "faults": faults}
