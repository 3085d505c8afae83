"""From schedules whose time has come to events. A tick is an event once, however many clocks see it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from django.db import transaction
from django.utils import timezone

from events import cloudevents, ingest
from events.cloudevents import Incoming
from events.ingest import Stored
from events.models import Schedule
from project import bulk
from project.api import Problem
from project.batch import is_transient, raise_if_disconnected, together_or_alone
from project.timestamps import time_of

log = structlog.get_logger(__name__)

BATCH: Final = 100
OUTCOME: Final = ("due_at", "last_fired_at", "last_event", "error")


@dataclass(frozen=True, slots=True)
class Tick:
    """A schedule's time that has come. `missed`: how many before it made no event, because nobody was there."""

    schedule: Schedule
    at: datetime
    missed: int

    def event(self) -> Incoming:
        """Raises Problem when the schedule's event cannot be one."""
        return _event(self.schedule, id_=f"{self.schedule.name}/{time_of(self.at)}", at=self.at, missed=self.missed)


def fire_due() -> dict[str, int]:
    """Make events of one batch of due schedules, in one transaction with their next times.

    However long nobody looked, a schedule makes one event: that of its latest time, which says how many were missed.
    Says how many schedules there were, and how many could make no event.
    """
    done = Counter[str]()
    with transaction.atomic():
        if schedules := Schedule.objects.claim(BATCH):
            for counts in together_or_alone(schedules, _fire, _fire_alone):
                done.update(counts)
    return dict(done)


def fire_now(schedule: Schedule) -> Stored:
    """Make the schedule's event now; its times stay as they are. Raises Problem when it cannot be an event."""
    now = timezone.now()
    with transaction.atomic():
        event = _event(schedule, id_=f"{schedule.name}/now/{time_of(now)}", at=now, missed=0)
        [stored] = ingest.accept([event], source=schedule.source)
        Schedule.objects.filter(pk=schedule.pk).update(last_fired_at=now, last_event=stored.uid, error="")
    return stored


def _event(schedule: Schedule, *, id_: str, at: datetime, missed: int) -> Incoming:
    given = {"type": schedule.type, "source": schedule.source, "subject": schedule.subject, "data": schedule.data}
    event = cloudevents.plain({**given, "id": id_})
    event.time = at
    event.extensions = {"schedule": schedule.name, "missed": missed}
    return event


def _fire(schedules: Sequence[Schedule]) -> Counter[str]:
    now = timezone.now()
    by_source: dict[str, list[Tick]] = defaultdict(list)
    for schedule in schedules:
        tick = _turn(schedule, now)
        if tick is not None:
            by_source[schedule.source].append(tick)
    for source, ticks in by_source.items():
        stored = ingest.accept([tick.event() for tick in ticks], source=source, batch=len(ticks) > 1)
        for tick, event in zip(ticks, stored, strict=True):
            tick.schedule.last_fired_at, tick.schedule.last_event, tick.schedule.error = now, event.uid, ""
    bulk.update(schedules, OUTCOME)
    return Counter(schedules=len(schedules))


def _turn(schedule: Schedule, now: datetime) -> Tick | None:
    """The tick that has come, if the schedule is on; sets its next time."""
    first = schedule.due_at
    if first is None or not schedule.enabled:  # disabled after it was planned
        schedule.due_at = None
        return None
    times = schedule.times
    # PostgreSQL says what is due, and its clock may be a little before ours.
    latest = times.latest(first, max(now, first))
    schedule.due_at = times.next(max(now, first))
    return Tick(schedule, latest, missed=times.count(first, latest))


def _fire_alone(schedule: Schedule) -> Counter[str]:
    schedule.refresh_from_db()  # the batch that failed has left its traces in it
    try:
        with transaction.atomic():
            return _fire([schedule])
    except Exception as error:  # a type that was retired, data that no longer fits, or a bug of ours: the others go on
        raise_if_disconnected(error)
        if is_transient(error):
            return Counter()  # it is due as it was
        schedule.refresh_from_db()
        schedule.error = f"{time_of(schedule.due_at)}: {_told(error)}"
        schedule.due_at = _next_or_never(schedule)
        log.warning("schedule made no event", schedule=schedule.name, error=schedule.error)
        bulk.update([schedule], OUTCOME)
        return Counter(schedules=1, failed=1)


def _told(error: Exception) -> str:
    if isinstance(error, Problem):
        return "; ".join(f"{fault.path}: {fault.message}" for fault in error.errors) or error.text
    return f"{type(error).__name__}: {error}"


def _next_or_never(schedule: Schedule) -> datetime | None:
    try:
        return schedule.times.next(timezone.now())
    except (ValueError, LookupError):  # not even its times can be read
        return None
