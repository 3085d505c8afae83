"""The WSGI application of the hand-rolled service."""

import os

from django.core.wsgi import get_wsgi_application

import benchmarks.chain.celery  # noqa: F401  the tasks' app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.chain.settings")
application = get_wsgi_application()
