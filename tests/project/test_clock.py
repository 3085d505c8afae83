"""The clock: one ticks, lost bells are made good, and without Redis it does the work itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import psycopg
import pytest
import redis
from django.core.cache import cache
from django.db import close_old_connections, connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from events.models import Event
from project.clock import LOCK, Clock
from project.models import Heartbeat
from tests import servers
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@contextmanager
def running(*clocks: Clock) -> Iterator[None]:
    def run(clock: Clock) -> None:
        clock.run()
        connection.close()

    threads = [threading.Thread(target=run, args=[clock]) for clock in clocks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for clock in clocks:
            clock.stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def frozen_redis() -> Iterator[None]:
    servers.valkey.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        servers.valkey.send_signal(signal.SIGCONT)


def holders() -> list[int]:
    """The sessions that hold the clocks' lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND (classid::bigint << 32) + objid::bigint = %s",
            [LOCK],
        )
        return [pid for (pid,) in cursor.fetchall()]


def terminate(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])


def due_event() -> Event:
    now = timezone.now()
    return Event.objects.create(source="/shop", event_id=str(now), type="note", time=now, due_at=now)


def ticked_since(moment: object) -> bool:
    return Heartbeat.objects.filter(process="clock", at__gt=moment).exists()


def test_of_two_clocks_one_ticks_and_the_other_takes_over() -> None:
    first, second = Clock(), Clock()
    with running(first):
        wait_until(holders, what="a clock that ticks")
        with running(second):
            time.sleep(1.5)
            (before,) = holders()
            first.stop.set()
            wait_until(lambda: holders() not in ([before], []), what="the other clock")
            assert len(holders()) == 1
            moment = timezone.now()
            wait_until(lambda: ticked_since(moment), what="a tick")


def test_it_goes_on_when_its_session_is_ended() -> None:
    with running(Clock()):
        (pid,) = wait_until(holders, what="a clock that ticks")
        terminate(pid)
        moment = timezone.now()
        wait_until(lambda: ticked_since(moment), what="a tick")
        assert holders() not in ([pid], [])


def test_a_clock_that_lost_its_lock_without_a_word_does_not_tick() -> None:
    """Django reconnects by itself between two ticks; the lock stays with the session that is gone."""
    clock = Clock()
    clock.tick()
    assert ticked_since(timezone.now() - timedelta(seconds=5))
    Heartbeat.objects.all().delete()
    with psycopg.connect(servers.postgres.url_of(connection.settings_dict["NAME"]), autocommit=True) as other:
        (pid,) = holders()
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        wait_until(
            lambda: other.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() == (True,), what="the lock"
        )
        for _ in range(2):
            close_old_connections()
            with suppress(Exception):
                clock.tick()
        assert not Heartbeat.objects.exists()
    connection.close()


def test_a_lost_bell_is_made_good(client: redis.Redis) -> None:
    due_event()
    with running(Clock()):
        wait_until(lambda: client.llen("events"), what="a bell")
        client.flushall()
        wait_until(lambda: client.llen("events"), seconds=4, what="another bell")
        assert client.llen("workflows") == 0, "nothing is due there"


def test_without_redis_it_does_the_work_itself(settings: Settings) -> None:
    settings.CLOCK_DRAINS_AFTER = 0.5
    event = due_event()
    with frozen_redis(), running(Clock()):
        wait_until(lambda: Event.objects.filter(pk=event.pk, due_at=None).exists(), what="routing by the clock")
        assert Heartbeat.objects.get(process="clock").detail == {"deaf": True}


def test_it_leaves_the_work_to_the_workers_while_redis_is_there(settings: Settings) -> None:
    settings.CLOCK_DRAINS_AFTER = 0.0
    event = due_event()
    with running(Clock()):
        time.sleep(2.5)
    assert Event.objects.filter(pk=event.pk, due_at__isnull=False).exists()


def test_a_bell_that_is_waiting_does_not_prove_that_the_broker_is_back() -> None:
    """Whether one is waiting, the cache knows; the broker may be another server."""

    def deaf() -> bool:
        clock.tick()
        return bool(Heartbeat.objects.get(process="clock").detail["deaf"])

    due_event()
    clock = Clock()
    with frozen_redis():
        clock.tick()
        assert deaf()
    wait_until(lambda: cache.add("bell:events.route", 1, 60) or True)
    cache.set("bell:events.route", 1, 60)
    assert deaf()
    assert deaf()
    cache.delete("bell:events.route")
    clock.tick()
    assert not deaf()
    connection.close()


def test_processes_that_are_long_gone_are_forgotten() -> None:
    Heartbeat.beat("worker@old")
    Heartbeat.beat("worker@new")
    Heartbeat.objects.filter(process="worker@old").update(at=timezone.now() - timedelta(days=2))
    Clock().tick()
    assert set(Heartbeat.objects.values_list("process", flat=True)) == {"worker@new", "clock"}
    connection.close()
