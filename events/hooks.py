"""From a webhook call to stored events: verified, translated, stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.conf import settings
from django.http import Http404
from rest_framework.exceptions import APIException

from events import catalogue, ingest
from events.catalogue import Hook
from events.cloudevents import Incoming, Original, check, shortened
from events.models import Source
from events.sources.base import Adapter, Call, digest
from project import metrics
from project.api import BadRequest, Problem, TooLarge, Unavailable

log = structlog.get_logger(__name__)

TRY_AGAIN = 60  # seconds, where a source is not set up right


def receive(name: str, call: Call) -> tuple[Mapping[str, Any], int]:
    """Store what the call at `/hooks/<name>` brings; returns the answer and its status.

    Raises Http404 (no such source), TooLarge, Refused (not the vendor's), BadRequest (not what the vendor sends),
    Unavailable (the source cannot verify), and what ingest raises. Then nothing is stored.
    """
    try:
        return _received(name, call)
    except (APIException, Http404) as error:
        status = getattr(error, "status_code", 404)
        metrics.count("carillon_events_refused_total", status=str(status))
        log.info("webhook refused", source=name, status=status, reason=str(error))
        raise


def _received(name: str, call: Call) -> tuple[Mapping[str, Any], int]:
    hook = catalogue.hook_of(name)
    if hook is None:
        raise Http404(f"There is no source {name} that takes webhooks, or it is disabled.")
    if len(call.body) > settings.EVENT_MAX_BYTES:
        raise TooLarge(f"The body has {len(call.body):,} bytes; at most {settings.EVENT_MAX_BYTES:,}.")
    adapter = _verified(name, hook, call)
    answer = adapter.answer(call)
    if answer is not None:
        return answer, 200
    events = _translated(adapter, call)
    _bring_types(name, adapter, events)
    batch = len(events) != 1
    stored = ingest.accept(events, source=hook.uri, rate_limit=hook.rate_limit, batch=batch)
    return ingest.told(stored, batch=batch)


def _verified(name: str, hook: Hook, call: Call) -> Adapter:
    """The source's adapter, when the call is the vendor's."""
    if hook.adapter is None:
        log.error("source not set up right", source=name, problem=hook.problem)
        raise Unavailable(
            f"The source {name} is not set up right and can verify nothing; `manage.py doctor` says why.",
            retry_after=TRY_AGAIN,
        )
    hook.adapter.verify(call, hook.secrets)
    return hook.adapter


def _translated(adapter: Adapter, call: Call) -> Sequence[Incoming]:
    original = Original.of(adapter.headers_of(call), call.body)
    try:
        events = adapter.translate(call)
    except Problem:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadRequest(
            f"The body is not what {adapter.name} sends: {type(error).__name__}: {str(error)[:200]}."
        ) from error
    for number, event in enumerate(events):
        event.id = event.id or (digest(call.content) + (f".{number}" if number else ""))
        event.subject = shortened(event.subject)
        event.original = original
        check(event)
    return events


def _bring_types(name: str, adapter: Adapter, events: Sequence[Incoming]) -> None:
    """A verified sender may bring types of its vendor that nobody has listed yet."""
    known = catalogue.catalogue(max_age=catalogue.FRESH).types
    new = {event.type for event in events if event.type not in known and adapter.described(event.type)}
    if new:
        Source.objects.get(name=name).bring_types(new)
