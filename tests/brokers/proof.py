"""One broker's proof: messages come in while consumers are killed and the broker is away, and each is one event."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

from django.db import connection
from django.db.models import Count

from events.brokers.base import Broker
from events.models import DeadLetter, Event, EventType, Source
from events.sources import adapters
from project.models import Tally
from tests.brokers.counterparts import Counterpart, Sent, structured
from tests.brokers.running import now
from tests.live import Live, wait_until

CHUNK: Final = 250  # messages that are published at once
AWAY: Final = 2.0  # seconds
PATIENCE: Final = 120.0  # seconds without a new event after which the rest is thought lost
SETTLED_WITHIN: Final = 60.0  # seconds until nothing waits at the broker any more
CONSUMERS: Final = ("consumer", "consumer-2")


@dataclass(frozen=True)
class Proof:
    """What came of it."""

    broker: str
    messages: int
    kills: int
    outage: str
    stored: int
    lost: int
    doubled: int
    dead: int
    left: int | None  # at the broker, afterwards
    again: int  # delivered more than once; a killed process takes what it counted in its last second with it
    seconds: float

    @property
    def well(self) -> bool:
        return (self.lost, self.doubled, self.dead) == (0, 0, 1) and not self.left


def prove(live: Live, broker: Counterpart, place: str, *, messages: int, kills: int) -> Proof:
    """Publish so many messages and a poisonous one among them; kill consumers by -9 on the way, and cut them off once.

    Two consumers run. Returns when every message is an event, or nothing has happened for PATIENCE seconds.
    """
    began = time.monotonic()
    EventType.objects.create(name="note")
    broker.prepare(place)
    Source.objects.create(name=place, adapter=broker.adapter, settings=broker.settings(place))
    live.start(*CONSUMERS)
    publishing = Publishing(broker, place, messages)
    publishing.start()
    outage = ""
    for turn in range(1, kills + 1):
        _stored(messages * turn // (kills + 1))
        victim = CONSUMERS[turn % 2]
        live.kill(victim)
        if turn == (kills + 1) // 2:
            with publishing.paused:
                outage = broker.outage(AWAY)
        live.start(victim)
    _stored(messages)
    publishing.join()
    wait_until(DeadLetter.objects.exists, seconds=PATIENCE, what="the dead letter")
    left = _left(broker, place)
    live.stop(*CONSUMERS)
    ids = {row["event_id"]: row["n"] for row in Event.objects.values("event_id").annotate(n=Count("pk"))}
    wanted = {f"m-{number}" for number in range(messages)}
    return Proof(
        broker=broker.adapter,
        messages=messages,
        kills=kills,
        outage=outage,
        stored=sum(ids.values()),
        lost=len(wanted - ids.keys()),
        doubled=sum(ids.values()) - len(ids) + len(ids.keys() - wanted),
        dead=DeadLetter.objects.count(),
        left=left,
        again=_delivered_again(),
        seconds=time.monotonic() - began,
    )


class Publishing(threading.Thread):
    """Publishes everything, the poisonous message in the middle; but nothing while `paused` is held."""

    def __init__(self, broker: Counterpart, place: str, messages: int) -> None:
        super().__init__(name="publishing", daemon=True)
        self._broker, self._place, self._messages = broker, place, messages
        self.paused = threading.Lock()

    def run(self) -> None:
        middle, chunk = self._messages // 2, min(CHUNK, self._broker.ahead // 2)
        for start in range(0, self._messages, chunk):
            some = [self._message(number) for number in range(start, min(start + chunk, self._messages))]
            if start <= middle < start + chunk:
                some.insert(middle - start, Sent(b"poison: not JSON", key="0"))
            _stored(start + chunk - self._broker.ahead)
            with self.paused:
                self._broker.publish(self._place, some)
        connection.close()

    def _message(self, number: int) -> Sent:
        data = {"number": number, "text": "a message of some length, as they are in real life " * 4}
        return Sent(
            structured(f"m-{number}", "note", data), content_type="application/cloudevents+json", key=str(number % 50)
        )


def _stored(number: int) -> None:
    """Wait until so many events are stored, or PATIENCE seconds have brought none."""
    seen, since = -1, time.monotonic()
    while (now_stored := Event.objects.count()) < number:
        if now_stored != seen:
            seen, since = now_stored, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            return
        time.sleep(0.02)


def _left(broker: Counterpart, place: str) -> int | None:
    """How much is left at the broker when what was in dead processes' hands has come again; None: it tells nobody."""

    async def ask() -> int | None:
        adapter = adapters[broker.adapter].from_settings(broker.settings(place))
        assert isinstance(adapter, Broker)
        reader = await adapter.connect(f"carillon-{place}-9")
        try:
            return await reader.lag()
        finally:
            await reader.close()

    deadline = time.monotonic() + SETTLED_WITHIN
    while (left := now(ask())) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _delivered_again() -> int:
    labels = {"outcome": "duplicate"}
    rows = Tally.objects.filter(name="carillon_consumer_messages_total", labels__contains=labels)
    return sum(rows.values_list("value", flat=True))
