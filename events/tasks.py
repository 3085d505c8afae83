"""The Celery task of the events app."""

from events import routing
from events.models import Event
from project.stage import Counts, stage


@stage("events.route", rows=lambda: Event.objects.all(), batch=routing.BATCH)
def route() -> Counts:
    return routing.route()
