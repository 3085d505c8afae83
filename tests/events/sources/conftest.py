"""Sources that are called as their vendors call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from events.models import Event, EventType, Source
from tests.events.sources.vendors import VENDORS, Headers, Vendor, adapter_of


class Caller:
    """A vendor, and the source that it calls."""

    def __init__(self, client: Client, name: str) -> None:
        self.vendor: Vendor = VENDORS[name]
        self.source = Source(
            name=f"my-{name.replace(' ', '-')}",
            adapter=adapter_of(name),
            secret=self.vendor.secret,
            settings=dict(self.vendor.settings),
        )
        self.source.full_clean()
        self.source.save()
        self.source.bring_types()
        EventType.objects.get_or_create(name=self.vendor.type)
        self._client = client

    def call(
        self,
        body: bytes | None = None,
        *,
        secret: str | None = None,
        at: datetime | None = None,
        prove: Callable[[bytes, str, datetime], Headers] | None = None,
        changed: Mapping[str, str | None] | None = None,
    ) -> HttpResponse:
        """A call with this body, proved by this secret at this time; `changed` headers are others, None: left out."""
        at = at or timezone.now()
        body = self.vendor.dress(self.vendor.payload.read_bytes() if body is None else body, at)
        secret = secret or self.vendor.secret
        headers = (prove or self.vendor.prove)(body, secret, at)
        return self.send(body, {**headers, **(changed or {})}, query=self.vendor.query.format(secret))

    def send(
        self, body: bytes, headers: Mapping[str, str | None] | Mapping[str, str], query: str | None = None
    ) -> HttpResponse:
        """Exactly this; headers that are None are left out."""
        given = {name.title(): value for name, value in headers.items()}
        sent = {name: value for name, value in given.items() if value is not None}
        query = self.vendor.query.format(self.vendor.secret) if query is None else query
        answer: Any = self._client.generic(
            "POST",
            f"/hooks/{self.source.name}{query}",
            body,
            content_type=sent.pop("Content-Type", ""),
            headers=sent,
        )
        return answer  # type: ignore[no-any-return]  # django-stubs has a class of its own for tests


@pytest.fixture
def caller(client: Client, request: pytest.FixtureRequest) -> Caller:
    return Caller(client, request.param)


def refused(answer: HttpResponse, *statuses: int) -> dict[str, Any]:
    """The problem that the answer is; nothing was stored."""
    assert answer.status_code in statuses, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert not Event.objects.exists()
    problem: dict[str, Any] = json.loads(answer.content)
    assert problem["detail"]
    return problem


def stored(answer: HttpResponse) -> Event:
    """The one event that the call brought."""
    assert answer.status_code == 202, answer.content
    return Event.objects.get(uid=json.loads(answer.content)["uid"])
