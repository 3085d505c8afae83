"""The Celery tasks of the events app."""

from events import replay as replaying
from events import routing, scheduling
from events.models import Event, Replay, Schedule
from project.stage import Counts, stage


@stage("events.route", rows=lambda: Event.objects.all(), batch=routing.BATCH)
def route() -> Counts:
    return routing.route()


@stage("events.replay", rows=lambda: Replay.objects.all(), batch=routing.BATCH)
def replay() -> Counts:
    return replaying.replay()


@stage("events.schedule", rows=lambda: Schedule.objects.all(), batch=scheduling.BATCH)
def schedule() -> Counts:
    return scheduling.fire_due()
