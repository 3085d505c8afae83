"""Events that come in at the same time are stored together, and each producer is told of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from events import ingest
from events.cloudevents import Incoming, Original
from events.ingest import Stored, accept
from events.models import Event, EventType, Source
from project import together

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _shop() -> None:
    Source.objects.create(name="shop")
    EventType.objects.create(name="order.paid")


def send(id_: str, data: Any = None, original: Original | None = None) -> Stored:
    """In a thread of its own, as a request is."""
    try:
        event = Incoming(type="order.paid", id=id_, data=data, original=original)
        [stored] = accept([event], source="/shop")
        return stored
    finally:
        connection.close()


@contextmanager
def somebody_stores(id_: str) -> Iterator[None]:
    """Somebody has an event with this id in a transaction that is open until the block ends, and undone."""
    info = connection.connection.info
    with closing(psycopg.connect(info.dsn, password=info.password)) as other:
        other.execute(
            "INSERT INTO events_event"
            " (uid, source, event_id, type, subject, time, dataschema, extensions, depth, verdicts, attempts, error)"
            " VALUES (uuidv7(), '/shop', %s, 'order.paid', '', now(), '', '{}', 0, '[]', 0, '')",
            [id_],
        )
        yield
        other.rollback()


def waiting(pool: ThreadPoolExecutor, *ids: str) -> list[Future[Stored]]:
    """Sent one after the other: the first is being stored, the others wait for it."""
    sent = []
    for place, id_ in enumerate(ids):
        sent.append(pool.submit(send, id_))
        while len(ingest._insert_together._waiting) < place or ingest._insert_together._since is None:
            time.sleep(0.001)
    return sent


def test_what_comes_meanwhile_is_stored_in_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "PATIENCE", 20.0)
    with ThreadPoolExecutor(4) as pool:
        with somebody_stores("A-1"):
            sent = waiting(pool, "A-1", "A-2", "A-1", "A-3")
        first, second, again, third = (future.result(20) for future in sent)
    assert [first.duplicate, second.duplicate, again.duplicate, third.duplicate] == [False, False, True, False]
    assert again.uid == first.uid
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_id, xmin FROM events_event")
        transactions = dict(cursor.fetchall())
    assert transactions["A-1"] != transactions["A-2"] == transactions["A-3"]
    assert Event.objects.count() == 3


def test_whoever_waits_for_somebody_elses_transaction_waits_alone() -> None:
    with ThreadPoolExecutor(2) as pool:
        with somebody_stores("A-1"):
            held, other = waiting(pool, "A-1", "A-2")
            assert other.result(20).id == "A-2"
            assert not held.done()
        assert not held.result(20).duplicate


def test_nobody_waits_for_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "PATIENCE", 20.0)
    large = "x" * (ingest.SMALL + 1)
    with ThreadPoolExecutor(2) as pool, somebody_stores("A-1"):
        waiting(pool, "A-1")
        pool.submit(send, "A-2", large).result(10)
        pool.submit(send, "A-3", None, Original({}, large)).result(10)
