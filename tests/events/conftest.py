"""A producer that talks to a real HTTP server, and the configuration it meets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.db import transaction
from pytest_django.live_server_helper import LiveServer

from events import consumers, consuming
from events.brokers.base import Reader
from events.brokers.sqs import SqsReader
from events.models import ApiKey, EventType, Source
from project.scopes import Scope

ORDER = {
    "type": "object",
    "required": ["order_id", "amount"],
    "properties": {"order_id": {"type": "string"}, "amount": {"type": "number"}, "customer": {"type": "string"}},
}
PAID = {"order_id": "A-1", "amount": 120.5, "customer": "Ada"}


ALL = (Scope.EVENTS_WRITE, Scope.EVENTS_READ, Scope.RUNS_WRITE, Scope.CONFIG_READ)


class Producer:
    """Somebody with an API key."""

    def __init__(self, server: str, source: Source, *scopes: Scope) -> None:
        self.url = f"{server}/api/v1/events"
        self.source = source
        self.row, self.key = ApiKey.issue(source, "tests", [*scopes] or [*ALL])
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {self.key}"

    def send(self, event: Any, headers: dict[str, str] | None = None) -> requests.Response:
        """POST an event or a list of them as plain JSON."""
        return self.session.post(self.url, json=event, headers=headers, timeout=30)

    def send_bytes(self, body: Any, content_type: str | None = "application/json", **headers: str) -> requests.Response:
        """POST exactly this."""
        given = {**headers, **({"Content-Type": content_type} if content_type is not None else {})}
        return self.session.post(self.url, data=body, headers=given, timeout=30)

    def get(self, path: str = "", headers: dict[str, str] | None = None, **parameters: Any) -> requests.Response:
        return self.session.get(self.url + path, params=parameters, headers=headers, timeout=30)


def event_type(name: str, *schemas: Any, retired: bool = False) -> EventType:
    """An event type with these versions of its schema."""
    made = EventType.objects.create(name=name, retired=retired)
    for schema in schemas:
        with transaction.atomic():
            made.add_schema(schema)
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers in this process look around more often than they need to where nobody waits for them."""
    monkeypatch.setattr(Reader, "patience", 0.2)
    monkeypatch.setattr(SqsReader, "patience", 1.0)
    monkeypatch.setattr(consuming, "LOOK_EVERY", 1.0)
    monkeypatch.setattr(consumers, "LOOK_EVERY", 0.5)
    monkeypatch.setattr(consumers, "BEAT_EVERY", 0.5)


@pytest.fixture
def shop(live_server: LiveServer) -> Iterator[Producer]:
    """The source /shop; it may send order.paid, which has a schema, and note, which may be anything."""
    event_type("order.paid", ORDER)
    event_type("note")
    producer = Producer(live_server.url, Source.objects.create(name="shop"))
    yield producer
    producer.session.close()
