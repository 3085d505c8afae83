"""The admin's first page: what is wrong, how much goes through, what waits, what failed. All by indexes and bounds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, TypeVar

from django.conf import settings
from django.contrib.admin import site
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from events import troubles
from events.models import Event
from events.troubles import Trouble
from events.welcome import welcome
from notifications import health
from notifications.models import Delivery
from project import minutes
from project.bounded import Group
from project.ledger import Balance, balances
from project.minutes import PERIODS, Series
from project.models import Heartbeat
from workflows.failures import failures as failed_runs
from workflows.models import Run

M = TypeVar("M", bound=models.Model)

SHOWN: Final = 8
PROCESSES: Final = ("clock", "worker", "performer", "sender")

CHARTS: Final = {
    "accepted": ("Events accepted", None),
    "matched": ("Subscriptions matched", None),
    "runs": ("Runs ended", "failed runs"),
    "deliveries": ("Deliveries arrived", "failed deliveries"),
}
"""The lines that have a chart, with its title and the line of failures that is drawn in it."""

# As unfold's own, but whole numbers on the axis; its functions cannot be written as JSON.
_TICKS = {"color": "#9ca3af", "maxRotation": 0, "autoSkipPadding": 24}
OPTIONS: Final = json.dumps(
    {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "grouped": False,
        "barPercentage": 1,
        "categoryPercentage": 0.8,
        "plugins": {"legend": {"display": False}},
        "scales": {
            "x": {"ticks": _TICKS, "grid": {"display": False}, "border": {"display": False}},
            "y": {
                "beginAtZero": True,
                "suggestedMax": 4,
                "ticks": {**_TICKS, "precision": 0, "maxTicksLimit": 4},
                "grid": {"tickWidth": 0},
                "border": {"display": False},
            },
        },
    }
)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What templates/admin/index.html shows."""
    return context | board(request)


def board(request: HttpRequest) -> dict[str, Any]:
    """What templates/facts/board.html shows to this person."""
    may = request.user.has_perm
    period = request.GET.get("period", "hour")
    period = period if period in PERIODS else "hour"
    alive = {beat.process: beat.detail for beat in Heartbeat.alive()}
    backlogs = troubles.backlogs()
    ledger = balances()
    found = [*troubles.processes(alive), *troubles.late(backlogs), *_unaudited(ledger)]
    if may("events.view_source"):
        found += troubles.sources(alive)
    if may("events.view_deadletter"):
        found += troubles.dead_letters()
    if may("notifications.view_channel"):
        found += troubles.channels()
    charts = list(_charts(minutes.series(PERIODS[period]), period))
    context = {
        "as_of": timezone.now(),
        "welcome": welcome(request),
        "state": _state(found, ledger),
        "troubles": sorted(found, key=lambda trouble: not trouble.grave),
        "period": period,
        "periods": [{"title": f"Last {name}", "link": f"?period={name}", "active": name == period} for name in PERIODS],
        "charts": charts,
        "chart_options": OPTIONS,
        "chart_data": {chart["id"]: chart["data"] for chart in charts},
        "backlogs": backlogs,
        "processes": list(_processes(alive)),
        "ledger": ledger,
        "unbalanced": [_unbalanced(request, balance) for balance in ledger if balance.difference],
        "audited_at": min((balance.as_of for balance in ledger if balance.as_of), default=None),
        "flower_url": settings.FLOWER_URL,
        "inbox": settings.INBOX,
    }
    if may("events.view_event"):
        context["last_events"] = Event.objects.defer("data", "extensions", "verdicts")[:SHOWN]
    if may("workflows.view_run"):
        runs = Run.objects.select_related("workflow").defer("input", "steps")
        context["failed_runs"] = _with_rows(failed_runs(), runs)
    if may("notifications.view_delivery"):
        deliveries = Delivery.objects.select_related("channel").defer("message", "channel__settings")
        context["failed_deliveries"] = _with_rows(health.failures(), deliveries)
        context["slowest"] = health.slowest()
    return context


def _state(found: Sequence[Trouble], ledger: Iterable[Balance]) -> str:
    if any(trouble.grave for trouble in found) or any(balance.difference for balance in ledger):
        return "troubled"
    return "noted" if found else "well"


def _unaudited(ledger: Iterable[Balance]) -> Iterator[Trouble]:
    for balance in ledger:
        if balance.unaudited:
            yield Trouble(f"The ledger: {balance.sum.says}: {balance.unaudited}", "The clock's log says why.")


def _charts(series: Series, period: str) -> Iterator[dict[str, Any]]:
    """One for each of CHARTS, as unfold's component takes it."""
    labels = [f"{timezone.localtime(start):%H:%M}" for start in series.starts]
    # A bar of the day is a quarter of an hour, and told by the minute as well.
    scale = PERIODS[period].step.total_seconds() / 60
    for line, (title, failures) in CHARTS.items():
        drawn = [(failures, "var(--color-red-500)")] if failures else []
        drawn.append((line, "var(--color-primary-500)"))
        yield {
            "id": f"chart-{line}",
            "title": title,
            "total": sum(series.values[line]),
            "failed": sum(series.values[failures]) if failures else 0,
            "most": round(max(series.values[line]) / scale),
            "data": {
                "labels": labels,
                "datasets": [
                    {
                        "label": f"{name} a minute",
                        "backgroundColor": colour,
                        "data": [round(n / scale, 1) for n in series.values[name]],
                    }
                    for name, colour in drawn
                ],
            },
        }


def _processes(alive: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """How many of each kind say that they are alive, and on which machines."""
    names = {
        kind: [name.partition("@")[2] for name in group]
        for kind, group in groupby(sorted(alive), key=lambda name: name.partition("@")[0])
    }
    for kind in dict.fromkeys([*PROCESSES, *names]):
        machines = names.get(kind, [])
        yield {"kind": kind, "alive": len(machines), "machines": ", ".join(filter(None, machines))}


def _with_rows(groups: Sequence[Group], rows: models.QuerySet[M]) -> list[tuple[Group, M]]:
    """The largest groups, each with its newest row."""
    first = rows.in_bulk([group.first for group in groups[:SHOWN]])
    return [(group, first[group.first]) for group in groups[:SHOWN] if group.first in first]


def _unbalanced(request: HttpRequest, balance: Balance) -> dict[str, Any]:
    """A sum with its rows at fault, each with the address of its page for who may see it."""
    opts = balance.sum.opened._meta
    may = request.user.has_perm(f"{opts.app_label}.view_{opts.model_name}") and balance.sum.opened in site._registry
    page = f"admin:{opts.app_label}_{opts.model_name}_change"
    faults = [(fault, reverse(page, args=[fault.uid]) if may else "") for fault in balance.faults[:SHOWN]]
    return {"balance": balance, "model": opts.verbose_name, "faults": faults}
