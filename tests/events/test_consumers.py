"""`manage.py consume`: which sources a process consumes, how fast, and how it tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from events import catalogue, troubles
from events.consumers import Consumers
from events.consuming import Consumer, Pauses, Seat, State
from events.doctor import sources as examined
from events.feeds import consumed
from events.models import DeadLetter, Event, Source
from events.sources import adapters
from project import metrics
from project.embedded import Postgres
from project.models import Heartbeat
from tests.brokers.counterparts import Counterpart, Sent, counterpart
from tests.brokers.running import Running
from tests.events.brokers.conftest import note, stored
from tests.events.conftest import event_type
from tests.live import Live, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def streams(brokers: Path, transactional_db: None) -> Counterpart:
    event_type("note")
    return counterpart("redis", brokers)


def source(streams: Counterpart, **fields: Any) -> Source:
    name = f"t{uuid4().hex[:12]}"
    given = {"settings": streams.settings(name), **fields}
    row = Source(name=name, adapter="redis", **given)
    row.full_clean()
    row.save()
    return row


@contextmanager
def consuming(*names: str) -> Iterator[Consumers]:
    """The consumers of a process, in a thread."""
    made: list[Consumers] = []

    async def run() -> None:
        made.append(Consumers(names))
        made[0].loop = asyncio.get_running_loop()  # type: ignore[attr-defined]  # for the end of it
        await made[0].run()

    thread = Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    wait_until(lambda: made)
    try:
        yield made[0]
    finally:
        made[0].loop.call_soon_threadsafe(made[0].stop.set)  # type: ignore[attr-defined]
        thread.join(20)
        assert not thread.is_alive()


class TestWhichSources:
    def test_new_changed_and_disabled_ones_are_noticed(self, streams: Counterpart) -> None:
        first = source(streams)
        with consuming():
            streams.publish(first.name, [note("1")])
            stored(1)
            second = source(streams)
            streams.publish(second.name, [note("2")])
            stored(2)
            moved = f"{second.name}-moved"
            second.settings = {**second.settings, "streams": [moved]}
            second.save()
            streams.publish(moved, [note("3")])
            stored(3)
            first.enabled = False
            first.save()
            wait_until(lambda: set(consumed()) == {second.name}, seconds=15, what="word of the disabled one")
            streams.publish(first.name, [note("4")])
            streams.publish(moved, [note("5")])
            stored(4)
        assert not Heartbeat.objects.filter(process__startswith="consumer@").exists()
        assert not Event.objects.filter(event_id="4").exists()

    def test_only_the_named_ones_are_consumed(self, streams: Counterpart) -> None:
        named, other = source(streams), source(streams)
        streams.publish(other.name, [note("other")])
        with consuming(named.name):
            streams.publish(named.name, [note("1")])
            (event,) = stored(1)
        assert event.event_id == "1"

    def test_a_name_that_nobody_knows_is_refused_with_those_there_are(self, streams: Counterpart) -> None:
        row = source(streams)
        Source.objects.create(name="shop")
        with pytest.raises(CommandError, match=f'broker "shop".*known: {row.name}'):
            call_command("consume", "shop")

    def test_one_that_is_not_set_up_right_says_so_and_stops_no_other(self, streams: Counterpart) -> None:
        good = source(streams)
        wrong = source(streams, settings={"url": "${NOT_SET_ANYWHERE}", "streams": ["x"]})
        away = source(streams, settings={"url": "redis://127.0.0.1:1/0", "streams": ["x"]})
        with consuming():
            streams.publish(good.name, [note("1")])
            stored(1)
            wait_until(
                lambda: (
                    {name: feed.state for name, feed in consumed().items()}
                    == {good.name: "consuming", wrong.name: "not set up right", away.name: "broker away"}
                ),
                seconds=15,
            )
            told = {finding.name: finding.wrong for finding in examined()}
            assert told[f"source {good.name}"] == ""
            assert "NOT_SET_ANYWHERE" in told[f"source {wrong.name}"]
            assert told[f"source {away.name}"].startswith("broker away: ")
            alive = {beat.process: beat.detail for beat in Heartbeat.alive()}
            assert {trouble.what.split()[1] for trouble in troubles.sources(alive)} == {
                f"{it.name}:" for it in (wrong, away)
            }

    def test_nobody_consumes_and_that_is_told(self, streams: Counterpart) -> None:
        row = source(streams)
        (finding,) = [finding for finding in examined() if finding.name == f"source {row.name}"]
        assert "nobody has consumed it" in finding.wrong
        (trouble,) = troubles.sources({})
        assert trouble.grave
        assert trouble.url.endswith(f"/source/{row.pk}/change/")

    def test_it_takes_no_webhooks(self, streams: Counterpart, client: Client) -> None:
        row = source(streams)
        assert client.post(f"/hooks/{row.name}", b"{}", content_type="application/json").status_code == 404


class TestHowFast:
    def test_what_is_over_the_rate_waits_and_is_not_lost(self, streams: Counterpart) -> None:
        row = source(streams, rate_limit="20/s")
        streams.publish(row.name, [note(str(n)) for n in range(60)])
        began = time.monotonic()
        with Running(row):
            stored(60)
        assert 1.5 < time.monotonic() - began < 20  # 20 at once, the rest in 2 seconds

    def test_a_batch_is_one_transaction(self, streams: Counterpart) -> None:
        row = source(streams)
        streams.publish(row.name, [note(str(n)) for n in range(100)])
        with Running(row):
            stored(100)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(DISTINCT xmin::text) FROM events_event")
            assert cursor.fetchone() == (1,)

    def test_pauses_grow_and_differ(self) -> None:
        one, two = Pauses(30.0), Pauses(30.0)
        grown = [one.next() for _ in range(12)]
        assert grown[0] <= 0.5
        assert 15.0 <= grown[-1] <= 30.0
        assert grown != [two.next() for _ in range(12)]
        one.reset()
        assert one.next() <= 0.5


class TestSeats:
    def test_each_consumer_has_its_own_and_the_next_has_what_is_free(self) -> None:
        taken: dict[str, int | None] = {}

        def sit(name: str, until: Any = None) -> None:
            seat = Seat("shop")
            try:
                taken[name] = seat.take(2)
                if until:
                    wait_until(until)
                seat.leave()
            finally:
                connection.close()

        first = Thread(target=sit, args=("first", lambda: "second" in taken))
        first.start()
        wait_until(lambda: "first" in taken)
        sit("second")
        first.join()
        sit("third")
        assert taken == {"first": 0, "second": 1, "third": 0}

    def test_who_goes_in_order_leaves_it_before_the_session_ends(self) -> None:
        seat = Seat("shop")
        assert seat.take(1) == 0
        seat.leave()
        assert not seat.kept
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            assert cursor.fetchone() == (0,)

    def test_it_is_kept_as_long_as_the_session(self) -> None:
        seat = Seat("shop")
        assert (seat.take(1), seat.take(1), seat.kept) == (0, 0, True)
        connection.close()
        assert not seat.kept


class TestWhatIsTold:
    def test_metrics(self, streams: Counterpart, client: Client) -> None:
        row = source(streams)
        streams.publish(row.name, [note("1"), note("1"), note("2"), Sent(b"x")])
        with consuming():
            wait_until(lambda: Event.objects.count() == 2 and DeadLetter.objects.exists())
            wait_until(lambda: (feed := consumed().get(row.name)) and feed.lag == 0 and feed.last, seconds=15)
            metrics.flush()
            told = client.get("/metrics").content.decode()
            label = f'source="{row.name}"'
            for line in (
                f'carillon_consumer_messages_total{{outcome="stored",{label}}} 2.0',
                f'carillon_consumer_messages_total{{outcome="duplicate",{label}}} 1.0',
                f'carillon_consumer_messages_total{{outcome="dead",{label}}} 1.0',
                f"carillon_consumer_up{{{label}}} 1.0",
                f"carillon_consumer_lag{{{label}}} 0.0",
                f"carillon_dead_letters{{{label}}} 1.0",
                f"carillon_consumer_delay_seconds{{{label}}} ",
                f"carillon_consumer_idle_seconds{{{label}}} ",
            ):
                assert line in told, line

    def test_a_change_of_state_is_logged_once(self, streams: Counterpart, caplog: pytest.LogCaptureFixture) -> None:
        row = source(streams)
        with Running(row) as consumer:
            wait_until(lambda: consumer.status.state is State.CONSUMING)
            streams.proxy.refuse()
            wait_until(lambda: consumer.status.state is State.AWAY)
            time.sleep(2)  # some tries
            streams.proxy.refuse(False)
            wait_until(lambda: consumer.status.state is State.CONSUMING, seconds=15)
        said = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
        assert said.count("broker away") == 1


def test_a_consumer_that_fails_is_started_again(streams: Counterpart) -> None:
    """What no consumer should do: end although it was not told to."""
    row = source(streams)
    with consuming() as consumers:
        wait_until(lambda: row.name in consumers._running)
        consumer, task = consumers._running[row.name]
        wait_until(
            lambda: consumer.status.state is State.CONSUMING
        )  # while connecting, the client may make it an error
        consumers.loop.call_soon_threadsafe(task.cancel)  # type: ignore[attr-defined]
        wait_until(lambda: consumers._running.get(row.name, (consumer,))[0] is not consumer)
        streams.publish(row.name, [note("1")])
        stored(1)
        assert isinstance(consumers._running[row.name][0], Consumer)


@pytest.mark.flow
class TestTheProcess:
    """`manage.py consume` as it is started, on a database of its own that is stopped and started."""

    def test_the_database_goes_and_comes_back_and_it_ends_when_told(
        self, live: Live, live_postgres: Postgres, brokers: Path
    ) -> None:
        streams = counterpart("redis", brokers)
        event_type("note")
        row = source(streams)
        live.start("consumer")
        streams.publish(row.name, [note("1")])
        stored(1)
        live_postgres.stop()
        streams.publish(row.name, [note(str(n)) for n in range(2, 50)])
        time.sleep(2)
        live_postgres.start()
        connection.close()
        stored(49, seconds=40)
        assert live.children["consumer"].poll() is None
        child = live.children["consumer"]
        assert live.stop("consumer")
        assert child.returncode == 0

    def test_it_idles_until_there_is_something_to_consume(self, live: Live, brokers: Path) -> None:
        live.start("consumer")
        wait_until(lambda: Heartbeat.alive().filter(process__startswith="consumer@").exists(), seconds=30)
        live.manage("alive", "consumer")
        event_type("note")
        streams = counterpart("redis", brokers)
        row = source(streams)
        streams.publish(row.name, [note("1")])
        stored(1)


def test_brokers_are_among_the_adapters_and_take_no_calls() -> None:
    assert {"kafka", "mqtt", "nats", "rabbitmq", "redis", "sqs"} <= set(adapters.names())
    assert catalogue.feeds() == {}
