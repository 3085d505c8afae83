"""Celery of the hand-rolled service."""

import os

from celery import Celery
from celery.fixups.django import DjangoWorkerFixup
from django.db import close_old_connections

# Kind to the baseline: left alone, Celery opens a database connection for every task, at several times the cost.
DjangoWorkerFixup.close_database = lambda self, **kwargs: close_old_connections()

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.chain.settings")
app = Celery("chain", broker=os.environ.get("REDIS_URL"))
app.conf.update(task_acks_late=True, task_ignore_result=True, broker_connection_retry_on_startup=True)
app.conf.update(imports=["benchmarks.chain.app.tasks"])
