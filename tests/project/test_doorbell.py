"""The doorbell: one ring for many, none before the commit, and never a request that waits for it."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from django.db import connection, transaction

from project import metrics
from project.doorbell import Doorbell, answered, ring, send
from project.models import Tally
from tests import servers
from tests.events.conftest import Producer, shop
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["shop"]

STAGE, QUEUE = "events.route", "events"


@pytest.fixture(autouse=True)
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@contextmanager
def frozen_redis() -> Iterator[None]:
    servers.valkey.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        servers.valkey.send_signal(signal.SIGCONT)
        # Whoever rang meanwhile hears nothing for a while; the next test shall start with a bell that rings.
        wait_until(lambda: send("workflows.advance") in ("rung", "waiting"), what="Redis")


def bells(outcome: str) -> int:
    metrics.flush()
    labels = {"stage": STAGE, "outcome": outcome}
    return sum(Tally.objects.filter(name="carillon_bells_total", labels=labels).values_list("value", flat=True))


def waiting(client: redis.Redis) -> int:
    return int(client.llen(QUEUE))


def test_many_rings_are_one_message_until_it_is_answered(client: redis.Redis) -> None:
    before = bells("rung")  # what tests before this one rang may not have been written yet
    bell = Doorbell()
    for n in range(200):
        bell.ring(STAGE, by=f"note {n}")
    wait_until(lambda: waiting(client) == 1, what="a message")
    for _ in range(20):
        bell.ring(STAGE)
        time.sleep(0.005)
    assert waiting(client) == 1
    answered(STAGE)
    bell.ring(STAGE)
    wait_until(lambda: waiting(client) == 2, what="a second message")
    assert bells("rung") - before == 2


def test_the_message_names_the_first_who_rang(client: redis.Redis) -> None:
    bell = Doorbell()
    bell.ring(STAGE, by="order.paid 1")
    wait_until(lambda: waiting(client) == 1)
    assert b"order.paid 1" in client.lrange(QUEUE, 0, 0)[0]


def test_each_stage_has_its_own_queue(client: redis.Redis) -> None:
    for stage, queue in (("events.route", "events"), ("workflows.advance", "workflows")):
        assert send(stage) == "rung"
        assert client.llen(queue) == 1
    assert send("notifications.deliver") == "rung"
    assert client.llen("notifications") == 1


def test_nobody_rings_before_the_commit_nor_without_it(client: redis.Redis) -> None:
    with transaction.atomic():
        ring(STAGE)
        time.sleep(0.1)
        assert waiting(client) == 0
    wait_until(lambda: waiting(client) == 1, what="a message")
    client.flushall()
    with pytest.raises(RuntimeError), transaction.atomic():
        ring(STAGE)
        raise RuntimeError
    time.sleep(0.1)
    assert waiting(client) == 0


def test_a_message_that_nobody_took_is_thought_lost_after_a_while(client: redis.Redis) -> None:
    assert (send(STAGE), send(STAGE)) == ("rung", "waiting")
    wait_until(lambda: send(STAGE) == "rung", seconds=4, what="the end of patience")


def test_after_a_failure_it_is_quiet_for_a_while_and_rings_again(client: redis.Redis) -> None:
    bell = Doorbell()
    failed, muted = bells("failed"), bells("muted")
    with frozen_redis():
        bell.ring(STAGE)
        wait_until(lambda: bells("failed") == failed + 1, what="a failure")
        for _ in range(5):
            bell.ring(STAGE)
            time.sleep(0.05)
        assert bells("failed") == failed + 1
        assert bells("muted") > muted
    client.flushall()

    def rung() -> bool:
        bell.ring(STAGE)
        return waiting(client) > 0

    wait_until(rung, seconds=6, what="the bell")


def test_a_request_does_not_wait_for_a_frozen_redis(shop: Producer) -> None:
    shop.send({"type": "note"})
    with frozen_redis():
        times = []
        for _ in range(15):
            began = time.monotonic()
            assert shop.send({"type": "note"}).status_code == 202
            times.append(time.monotonic() - began)
    assert statistics.median(times) < 0.3
    assert max(times) < 1  # a machine that is busy with other things


def test_it_rings_in_a_forked_process_too(client: redis.Redis) -> None:
    bell = Doorbell()
    bell.ring(STAGE)
    wait_until(lambda: waiting(client) == 1)
    answered(STAGE)
    connection.close()
    pid = os.fork()
    if pid == 0:
        bell.ring(STAGE)
        time.sleep(2)
        os._exit(0)
    try:
        wait_until(lambda: waiting(client) == 2, seconds=5, what="the child's message")
    finally:
        os.waitpid(pid, 0)


def test_without_redis_bells_are_kept_in_postgresql(client: redis.Redis, settings: Any) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "carillon_cache"}
    }
    assert [send(STAGE), send(STAGE)] == ["rung", "waiting"]
    answered(STAGE)
    assert send(STAGE) == "rung"
    assert waiting(client) == 2

    # The doorbell's own session may be gone when it rings the next time.
    answered(STAGE)
    bell = Doorbell()
    bell.ring(STAGE)
    wait_until(lambda: waiting(client) == 3, what="the bell")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    answered(STAGE)
    bell.ring(STAGE)
    wait_until(lambda: waiting(client) == 4, what="the bell after its session was ended")
