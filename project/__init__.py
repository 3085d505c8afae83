"""The wiring of Carillon and its kernel of small nouns that imports no app."""

import gc

# What imports make lives on: looking through it every 700 containers is a tenth of what a process needs to start.
gc.set_threshold(20_000, 10, 10)

from project.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
