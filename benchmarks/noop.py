"""A Celery application whose one task does nothing: what a message costs. Its broker is CELERY_BROKER_URL."""

from celery import Celery

app = Celery("noop", fixups=[])  # this one is no Django project
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task
def nothing() -> None:
    """Do nothing."""
