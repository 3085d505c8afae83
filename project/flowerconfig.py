"""Flower's settings: the live view on the tasks. What has to last is in the admin; Flower forgets when it restarts."""

import sys

from celery.signals import import_modules
from django.conf import settings
from django.utils.crypto import salted_hmac

from project import flowerlogin
from project.celerybroker import Kind, kind

if kind(settings.CELERY_BROKER_URL) == Kind.SQS:
    sys.exit("Flower can see nothing on SQS: workers say nothing of themselves there. Carillon's admin shows all runs.")

# Flower shows what workers tell it, so it needs none of our models and tasks: 3 s and 80 MB less.
import_modules.receivers = []

# Any word: it says that there is a login, so that Flower checks where forms come from. Ours decides who may enter.
auth = "carillon"
cookie_secret = salted_hmac("carillon.flower", "cookies").hexdigest()
flowerlogin.install()

# What a task was called with names the event that rang, what it returned says what it did.
tasks_columns = "name,state,kwargs,result,received,runtime,worker,uuid"
natural_time = False
max_tasks = 20_000  # 5.5 KB each
purge_offline_workers = 300
persistent = False
