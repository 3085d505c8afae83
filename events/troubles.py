"""What is wrong now, and what to do about it: the top of the overview.

`manage.py doctor` looks closer and takes its time; this is asked every few seconds by everybody who has the page open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from events.dead_letters import waiting
from events.feeds import consumed, wrong_with
from events.models import Source
from notifications.models import Channel
from project.doctor import REMEDIES
from project.due import COUNTED, LONGEST_WAIT
from project.health import OK, staff
from project.stage import stages

SLOW: Final = 10.0  # seconds that a due row may wait before it is a backlog
CHANNELS: Final = 20  # told of
SOURCES: Final = 20

TITLES: Final = {
    "events.route": "Events to route",
    "events.replay": "Replays to route",
    "events.schedule": "Schedules to fire",
    "workflows.advance": "Runs to advance",
    "workflows.close": "Gates to remove",
    "workflows.request": "Steps that wait for the network",
    "workflows.perform": "Steps of ordinary code",
    "notifications.deliver": "Deliveries to send",
    "notifications.recover": "Failed deliveries to send again",
}

WAITS_FOR: Final = {"notifications.deliver": " Or they wait for the rate limit of their channel, as was asked for."}
"""What else than a want of processes keeps a stage waiting."""


@dataclass(frozen=True)
class Trouble:
    """Something that a person should know. Not `grave`: it is as somebody wanted it, or mends itself."""

    what: str
    remedy: str
    grave: bool = True
    url: str = ""  # of the page where it can be put right
    link: str = ""


@dataclass(frozen=True)
class Backlog:
    """How far a stage is behind."""

    name: str
    title: str
    age: float  # seconds that the oldest due row waits
    overdue: int  # rows that nobody took for a minute; at most COUNTED

    @property
    def slow(self) -> bool:
        return self.age > SLOW


def backlogs() -> Sequence[Backlog]:
    """Every stage's. One look into an index for each, and another for those that are late."""
    found = []
    for name, stage in sorted(stages.items()):
        age = stage.rows().backlog_age()
        overdue = stage.rows().overdue() if age > LONGEST_WAIT.total_seconds() else 0
        found.append(Backlog(name, TITLES.get(name, name), age, overdue))
    return found


def processes(alive: Mapping[str, Any]) -> Iterator[Trouble]:
    """Who does not work, of those that say that they are alive (name: detail)."""
    for name, said in staff(alive).items():
        if said != OK:
            yield Trouble(f"{'The clock' if name == 'clock' else 'Workers'}: {said}", REMEDIES[name])
    if alive.get("clock", {}).get("deaf"):
        yield Trouble("The broker cannot be reached: bells cannot be rung.", REMEDIES["broker"])


def late(found: Iterable[Backlog]) -> Iterator[Trouble]:
    """Stages that are behind."""
    for backlog in found:
        if backlog.overdue:
            many = f"{backlog.overdue:,}{' or more' if backlog.overdue == COUNTED else ''}"
            yield Trouble(
                f"{backlog.title}: nobody took {many} due row{'s' * (backlog.overdue != 1)} for more than a minute.",
                "Is the process that serves this stage running? Its log says what it does."
                + WAITS_FOR.get(backlog.name, ""),
            )
        elif backlog.slow:
            yield Trouble(
                f"{backlog.title}: {backlog.age:.0f} s behind.",
                "If it does not catch up, start more of the processes that serve this stage."
                + WAITS_FOR.get(backlog.name, ""),
                grave=False,
            )


def sources(alive: Mapping[str, Any]) -> Iterator[Trouble]:
    """Brokers that nobody consumes from, of those that say that they are alive (name: detail)."""
    told = consumed(alive)
    for row in Source.of_brokers().filter(enabled=True)[:SOURCES]:
        if found := wrong_with(told.get(row.name)):
            wrong, remedy = found
            page = reverse("admin:events_source_change", args=[row.pk])
            yield Trouble(f"Source {row.name}: {wrong}.", remedy, grave=True, url=page, link="Open the source")


def dead_letters() -> Iterator[Trouble]:
    """Messages of brokers that could not be events."""
    for name, number in waiting().items():
        page = f"{reverse('admin:events_deadletter_changelist')}?source={name}&state=waiting"
        one = number == 1
        yield Trouble(
            f"Source {name}: {number:,} message{'' if one else 's'} could not be {'an event' if one else 'events'}.",
            "Mend what was wrong, and try again; or discard.",
            grave=False,
            url=page,
            link="Open the dead letters",
        )


def channels() -> Iterator[Trouble]:
    """Channels that do not send as they should."""
    now = timezone.now()
    rows = Channel.objects.filter(
        Q(hold_until__gt=now) | Q(failing_since__isnull=False) | Q(paused_at__isnull=False) | Q(enabled=False)
    ).defer("settings")
    for row in rows[:CHANNELS]:
        what, remedy, grave = _channel(row)
        page = reverse("admin:notifications_channel_change", args=[row.pk])
        yield Trouble(f"Channel {row.name} {what}", remedy, grave, page, "Open the channel")


def _channel(row: Channel) -> tuple[str, str, bool]:
    """What is the matter with it, what to do, and whether that is grave."""
    if not row.enabled and row.hold_reason:
        return row.hold_reason, "Mend the far side or the settings, enable it, and recover what failed.", True
    if not row.enabled:
        return "is disabled.", "Deliveries to it are skipped until somebody enables it.", False
    if row.paused_at:
        told = f" {row.pause_reason}" if row.pause_reason else ""
        return f"is paused{told}, since {row.paused_at:%Y-%m-%d %H:%M} UTC.", "What is due for it waits.", False
    since = f" No success since {row.failing_since:%Y-%m-%d %H:%M} UTC." if row.failing_since else ""
    if row.hold_until and row.hold_until > timezone.now():
        told = f"is on hold until {row.hold_until:%H:%M:%S} UTC: {row.hold_reason}.{since}"
        return told, "It is tried again by itself. If it stays on hold, see what the far side answers.", True
    return f"is failing.{since}", "It is tried again by itself. See what the far side answers.", True
