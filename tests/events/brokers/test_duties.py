"""What every broker must do. A new one gets its line in COUNTERPARTS (tests/brokers), and the whole suite."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from events import catalogue, intake
from events.brokers.base import Broker, Message, Reader
from events.consuming import Consumer, State
from events.models import DeadLetter, Event, Original
from events.sources import adapters
from tests.brokers.counterparts import COUNTERPARTS, Sent, structured
from tests.brokers.running import Running, now
from tests.events.brokers.conftest import Place, note, stored
from tests.events.conftest import PAID
from tests.live import wait_until

pytestmark = [pytest.mark.django_db(transaction=True)]

each = pytest.mark.parametrize("place", sorted(COUNTERPARTS), indirect=True)

SLOW = ("kafka", "sqs")  # their servers here take seconds for what the others do at once
quick_ones = pytest.mark.parametrize(
    "place",
    [pytest.param(name, marks=[pytest.mark.thorough] if name in SLOW else []) for name in sorted(COUNTERPARTS)],
    indirect=True,
)


def test_every_broker_is_held_to_these_duties() -> None:
    assert sorted(COUNTERPARTS) == [name for name, adapter in adapters.items() if issubclass(adapter, Broker)]


@each
def test_a_cloud_event_is_understood_in_every_mode(place: Place) -> None:
    attributes = {"specversion": "1.0", "id": "b-1", "source": "/elsewhere", "type": "order.paid", "subject": "A%201"}
    place.publish(
        Sent(b'{"order_id": "A-1", "amount": 120.5}', attributes, {"other": "x"}, "application/json; charset=utf-8"),
        Sent(structured("s-1", "order.paid", PAID), content_type="application/cloudevents+json; charset=utf-8"),
        Sent(structured("s-2", "order.paid", PAID, source=f"/{place.name}/eu")),  # nobody says what it is
        Sent(
            b'{"type": "order.paid", "id": "p-1", "data": {"order_id": "A-2", "amount": 1}}', content_type="text/plain"
        ),
        Sent(
            b"[" + structured("m-1", "note", 1) + b"," + structured("m-2", "note", 2) + b"]",
            content_type="application/cloudevents-batch+json",
        ),
    )
    with Running(place.source()):
        found = {event.event_id: event for event in stored(6)}
    assert not DeadLetter.objects.exists()
    assert found["b-1"].data == {"order_id": "A-1", "amount": 120.5}
    assert found["b-1"].subject == "A%201"
    assert found["b-1"].source == f"/{place.name}/elsewhere"
    assert found["s-1"].data == PAID
    assert found["s-2"].source == f"/{place.name}/eu"
    assert found["p-1"].source == f"/{place.name}"
    assert {found[id_].data for id_ in ("m-1", "m-2")} == {1, 2}
    assert all(event.due_at for event in found.values())


@each
def test_any_json_is_what_the_settings_say(place: Place) -> None:
    body = b'{"event": "paid", "order": {"number": 7}, "at": 1531420618}'
    place.publish(Sent(body, headers={"x-shop": "eu", "x-token": "hush"}, content_type="application/json"))
    source = place.source(
        type="order.${{ body.event }}",
        subject="${{ body.order.number }} ${{ headers['x-shop'] }}",
        time="${{ body.at }}",
        data="${{ {'order_id': string(body.order.number), 'amount': 1} }}",
    )
    with Running(source):
        (event,) = stored(1)
    assert (event.type, event.subject, event.time.year) == ("order.paid", "7 eu", 2018)
    assert event.data == {"order_id": "7", "amount": 1}
    original = Original.objects.get()
    assert original.body.encode() == body
    assert original.headers["x-shop"] == "eu"
    assert "x-token" not in original.headers


@each
def test_a_message_that_cannot_be_an_event_does_not_stop_the_others(place: Place) -> None:
    place.publish(
        note("1"),
        Sent(b"{not json", headers={"x-from": "tests"}, key="1"),
        note("2"),
        Sent(structured("u", "unheard.of", 1), key="2"),
        Sent(structured("w", "order.paid", {"order_id": 5}), key="1"),
        Sent(structured("l", "note", "x" * 300_000 if place.broker.adapter != "sqs" else "x" * 250_000), key="1"),
        note("3"),
    )
    with Running(place.source()) as consumer:
        wait_until(lambda: Event.objects.count() + DeadLetter.objects.count() == 7, seconds=20)
    reasons = {letter.position: letter.reason for letter in DeadLetter.objects.all()}
    assert sorted(Event.objects.filter(event_id__in="123").values_list("event_id", flat=True)) == ["1", "2", "3"]
    said = "\n".join(sorted(reasons.values()))
    assert "is not JSON" in said
    assert "type: there is no event type 'unheard.of'" in said
    assert "data.order_id: 5 is not of type" in said
    assert 'data: "amount" is a required property' in said
    assert ("at most 262,144" in said) == (place.broker.adapter != "sqs")  # SQS itself takes no more
    (letter,) = DeadLetter.objects.filter(reason__contains="not JSON")
    assert (bytes(letter.body), letter.headers.get("x-from"), letter.whole) == (b"{not json", "tests", True)
    assert consumer.status.error == ""
    nothing_is_left(place)


@each
def test_what_is_delivered_again_is_a_duplicate(place: Place) -> None:
    """Also where nothing but the broker's own place is its id."""
    place.publish(*(Sent(b'{"n": %d}' % n, key=str(n)) for n in range(4)), Sent(b"not json", key="0"))
    feed = catalogue.hook(place.source(type="note"))
    assert isinstance(feed.adapter, Broker)
    first = now(receive(feed.adapter, 5, acknowledge=False, source=feed))
    assert (Event.objects.count(), DeadLetter.objects.count()) == (4, 1)
    again = now(receive(feed.adapter, 5, acknowledge=True, source=feed))
    assert sorted(first) == sorted(again)
    assert len(set(first)) == 5
    assert (Event.objects.count(), DeadLetter.objects.count()) == (4, 1)
    patience = {"nats": 3.0, "sqs": 4.0}.get(place.broker.adapter, 1.0)  # longer than it would take to come again
    assert now(receive(feed.adapter, 1, acknowledge=False, source=feed, patience=patience)) == []


@each
def test_nothing_is_acknowledged_before_the_commit(place: Place) -> None:
    place.publish(*(note(str(n)) for n in range(3)))
    with events_locked():
        with Running(place.source()) as consumer:
            end_waiting_sessions(consumer)
        assert not Event.objects.exists()
        assert left(place)
    with Running(place.source()):
        stored(3)
    nothing_is_left(place)


@quick_ones
def test_the_database_comes_back_and_nothing_is_lost(place: Place) -> None:
    place.publish(*(note(str(n)) for n in range(3)))
    with events_locked() as holder, Running(place.source()) as consumer:
        end_waiting_sessions(consumer)
        holder.rollback()
        stored(3)
        wait_until(lambda: consumer.status.state is State.CONSUMING)
    nothing_is_left(place)


@quick_ones
def test_two_consumers_share_the_work(place: Place) -> None:
    source = place.source(batch=1)
    with Running(source) as one, Running(source) as two:
        wait_until(lambda: one.status.state is State.CONSUMING and two.status.state is State.CONSUMING, seconds=20)
        time.sleep(3 if place.broker.adapter == "kafka" else 0)  # until both have their partition
        place.publish(*(note(str(n)) for n in range(60)))
        stored(60)
        assert one.status.last is not None
        assert two.status.last is not None
    nothing_is_left(place)


@quick_ones
def test_who_is_stopped_finishes_its_batch_and_the_next_goes_on(place: Place) -> None:
    source = place.source(batch=7)
    place.publish(*(note(str(n)) for n in range(60)))
    with Running(source):
        wait_until(Event.objects.exists, seconds=20)
    before = Event.objects.count()
    with Running(source):
        assert {event.event_id for event in stored(60)} == {str(n) for n in range(60)}
    assert before > 0
    nothing_is_left(place)


@quick_ones
def test_a_lost_connection_is_made_again(place: Place) -> None:
    with Running(place.source()) as consumer:
        wait_until(lambda: consumer.status.state is State.CONSUMING, seconds=20)
        place.publish(note("1"))
        stored(1)
        place.broker.proxy.refuse()
        wait_until(lambda: consumer.status.state is State.AWAY, seconds=30, what="word of the lost connection")
        assert consumer.status.error
        place.broker.proxy.refuse(False)
        place.publish(note("2"))
        stored(2, seconds=30)
        wait_until(lambda: consumer.status.state is State.CONSUMING, seconds=30)
        place.broker.proxy.cut()
        place.publish(note("3"))
        stored(3, seconds=30)


@quick_ones
def test_the_lag_is_what_waits_at_the_broker(place: Place) -> None:
    place.publish(*(note(str(n)) for n in range(5)))
    assert left(place) == 5 or (place.broker.adapter == "kafka" and left(place))  # Tansu counts batches
    with Running(place.source()) as consumer:
        stored(5)
        wait_until(lambda: consumer.status.lag == (None if place.broker.adapter == "mqtt" else 0))


@each
def test_its_form_shows_every_setting_and_unknown_ones_are_refused(place: Place) -> None:
    adapter = type(place.adapter())
    assert all(field.title for field in adapter.model_fields.values())
    assert adapter.problems({**place.broker.settings(place.name), "quue": "x"})[0][0] == "quue"
    assert adapter.problems({**place.broker.settings(place.name), "id": "${{ body. }}"})[0][0] == "id"
    assert adapter.webhooks is False
    assert adapter.__doc__


def nothing_is_left(place: Place) -> None:
    """At the broker. What comes again, because a connection took the word of its arrival with it, was stored before."""
    number = Event.objects.count()
    if left(place):
        with Running(place.source()):
            time.sleep(2)  # nothing tells that no more comes
    assert (left(place), Event.objects.count()) == (0, number)


def left(place: Place) -> int:
    """How much waits at the broker while nobody consumes: as it tells, or as what it delivers."""

    async def ask() -> int:
        reader = await place.adapter().connect(f"carillon-{place.name}-0")
        try:
            lag = await reader.lag()
            return len(await reader.receive(100, 1.0)) if lag is None else lag
        finally:
            await reader.close()

    return now(ask())


async def receive(
    broker: Broker, number: int, *, acknowledge: bool, source: catalogue.Hook, patience: float = 15
) -> list[str]:
    """The positions of so many messages, which are stored, and acknowledged if they are to be."""
    name = source.uri[1:]
    reader: Reader = await broker.connect(f"carillon-{name}-0")
    positions: list[str] = []
    deadline = time.monotonic() + patience
    try:
        while len(positions) < number and time.monotonic() < deadline:
            messages = await reader.receive(10, 1.0)
            if messages:
                await asyncio.to_thread(keep, name, source, messages)
                positions += [message.position for message in messages]
                if acknowledge:
                    await reader.acknowledge(messages)
    finally:
        await reader.close()
    return positions


def keep(name: str, source: catalogue.Hook, messages: Sequence[Message]) -> None:
    try:
        intake.keep(name, source, messages)
    finally:
        connection.close()


@contextmanager
def events_locked() -> Iterator[BaseDatabaseWrapper]:
    """No event can be stored until the end of the block, or until the connection rolls back."""
    holder = connections.create_connection("default")
    try:
        holder.set_autocommit(False)
        holder.cursor().execute("LOCK TABLE events_event IN EXCLUSIVE MODE")
        yield holder
    finally:
        holder.close()


def end_waiting_sessions(consumer: Consumer) -> None:
    """The database is gone before the consumer could commit."""
    wait_until(blocked, what="an insert that waits for the lock")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
    wait_until(lambda: consumer.status.state is State.NO_DATABASE)


def blocked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone() == (True,))
