"""The Celery tasks of the workflows app."""

from django.db import transaction

from project.stage import Counts, stage
from workflows import engine, gates
from workflows.models import Gate, Run

GATES = 1000


@stage("workflows.advance", rows=lambda: Run.objects.all(), batch=engine.BATCH)
def advance() -> Counts:
    return engine.advance()


@stage("workflows.close", rows=lambda: Gate.objects.all(), batch=GATES)
def close() -> Counts:
    """Remove the gates that nobody needs any more."""
    with transaction.atomic():
        removed = gates.remove_unneeded(GATES)
    return {"gates": removed} if removed else {}
