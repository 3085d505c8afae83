"""Flower's settings: the live view on the tasks. What has to last is in the admin; Flower forgets when it restarts."""

from celery.signals import import_modules
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

# Flower shows what workers tell it, so it needs none of our models and tasks: 3 s and 80 MB less.
import_modules.receivers = []

if ":" not in settings.FLOWER_BASIC_AUTH:
    raise ImproperlyConfigured(
        "FLOWER_BASIC_AUTH is not set. Flower can stop workers, so it does not start without a password: "
        "set it to user:password (several, separated by commas, are fine)."
    )
# /metrics and /healthcheck stay open in spite of it: keep Flower's port inside your network.
basic_auth = settings.FLOWER_BASIC_AUTH.split(",")

# What a task was called with names the event that rang, what it returned says what it did.
tasks_columns = "name,state,kwargs,result,received,runtime,worker,uuid"
natural_time = False
max_tasks = 20_000  # 5.5 KB each
purge_offline_workers = 300
persistent = False
