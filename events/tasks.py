"""The Celery tasks of the events app."""

from events import routing, scheduling
from events.models import Event, Schedule
from project.stage import Counts, stage


@stage("events.route", rows=lambda: Event.objects.all(), batch=routing.BATCH)
def route() -> Counts:
    return routing.route()


@stage("events.schedule", rows=lambda: Schedule.objects.all(), batch=scheduling.BATCH)
def schedule() -> Counts:
    return scheduling.fire_due()
