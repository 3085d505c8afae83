"""The wiring of Carillon and its kernel of small nouns that imports no app."""

from project.celery import app as celery_app

__all__ = ["celery_app"]
