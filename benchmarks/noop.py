"""A Celery application whose one task does nothing: what a message costs. Its broker is CELERY_BROKER_URL."""

from celery import Celery

# No Django project, and where it is imported beside one, not the app that its tasks belong to.
app = Celery("noop", fixups=[], set_as_current=False)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task
def nothing() -> None:
    """Do nothing."""
