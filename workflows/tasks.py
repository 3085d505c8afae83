"""The Celery task of the workflows app."""

from project.stage import Counts, stage
from workflows import engine
from workflows.models import Run


@stage("workflows.advance", rows=lambda: Run.objects.all(), batch=engine.BATCH)
def advance() -> Counts:
    return engine.advance()
