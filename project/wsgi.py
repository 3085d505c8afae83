"""The WSGI application: what a `web` process serves.

A request to the API, or of a webhook, passes only the middleware that means something to it. Sessions, messages and
the like are for browsers, and would be a good part of what it costs to store an event.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.urls import get_resolver

from project.memory import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup(set_prefix=False)


def _handler(middleware: Sequence[str]) -> WSGIHandler:
    """Django's handler with this middleware, which it reads from the settings when it is made."""
    whole, settings.MIDDLEWARE = settings.MIDDLEWARE, list(middleware)
    try:
        return WSGIHandler()
    finally:
        settings.MIDDLEWARE = whole


_pages = _handler(settings.MIDDLEWARE)
_api = _handler(settings.API_MIDDLEWARE)
get_resolver().url_patterns  # noqa: B018  imports the views, which the first request would do otherwise
settle()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    handler = _api if environ["PATH_INFO"].startswith(("/api/v1/", "/hooks/")) else _pages
    return handler(environ, start_response)
