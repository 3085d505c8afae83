"""A broker, a place on it, and a source that consumes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from events.brokers.base import Broker
from events.models import Event, Source
from events.sources import adapters
from tests.brokers.counterparts import Counterpart, Sent, counterpart, structured
from tests.events.conftest import ORDER, event_type
from tests.live import wait_until


class Place:
    """Where a source consumes; its name is the source's."""

    def __init__(self, broker: Counterpart, name: str) -> None:
        self.broker, self.name = broker, name
        broker.prepare(name)
        event_type("order.paid", ORDER)
        event_type("note")

    def source(self, **settings: Any) -> Source:
        """The source, saved; again with other settings it is changed."""
        row = Source.objects.filter(name=self.name).first() or Source(name=self.name, adapter=self.broker.adapter)
        row.settings = {**self.broker.settings(self.name), **settings}
        row.full_clean()
        row.save()
        return row

    def adapter(self, **settings: Any) -> Broker:
        found = adapters[self.broker.adapter].from_settings({**self.broker.settings(self.name), **settings})
        assert isinstance(found, Broker)
        return found

    def publish(self, *messages: Sent) -> None:
        self.broker.publish(self.name, messages)


@pytest.fixture
def place(request: pytest.FixtureRequest, brokers: Path, transactional_db: None) -> Iterator[Place]:
    """A place of its own on the broker that the test names."""
    broker = counterpart(request.param, brokers)
    made = Place(broker, f"t{uuid4().hex[:12]}")
    yield made
    broker.proxy.refuse(False)
    broker.remove(made.name)


def note(id_: str, data: Any = None, **more: Any) -> Sent:
    """A CloudEvent of a type that has no schema."""
    body = structured(id_, "note", data, **more)
    return Sent(body, content_type="application/cloudevents+json", key=id_)


def stored(number: int, *, seconds: float = 20) -> Sequence[Event]:
    """Wait for so many events; more than these are an error."""
    wait_until(lambda: Event.objects.count() >= number, seconds=seconds, what=f"{number} events")
    found = list(Event.objects.order_by("uid"))
    assert len(found) == number
    return found
