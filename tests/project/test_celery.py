"""Celery as Carillon uses it, in real workers: few sessions, and it survives the loss of either server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

import psycopg
import pytest
import redis
from celery.events.event import get_exchange
from django.db import connection
from django.utils import timezone
from kombu import Connection, Exchange, Message, Producer, Queue

from events.models import Event
from project.cache import RedisCache
from project.celery import app
from project.stage import stages
from tests.live import Live, wait_until


def test_the_settings_that_promises_stand_on() -> None:
    assert app.conf.task_acks_late is False
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.result_backend is None
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.task_publish_retry is False
    assert app.conf.broker_connection_max_retries is None
    assert set(stages) <= set(app.conf.task_routes)
    assert {queue.name for queue in app.conf.task_queues} == set(app.conf.task_routes.values())
    assert {queue.exchange.type for queue in app.conf.task_queues} == {"direct"}


def ring(live: Live, times: int = 1) -> None:
    with Connection(live.valkey.url) as sending:
        for _ in range(times):
            app.send_task("events.route", connection=sending)


def routed(live: Live, name: str, *, seconds: float = 30) -> None:
    """An event that comes due is routed by the worker: nobody else is there."""
    now = timezone.now()
    event = Event.objects.create(source="/shop", event_id=name, type="note", time=now, due_at=now)

    def done() -> bool:
        ring(live)
        return Event.objects.filter(pk=event.pk, due_at=None).exists()

    wait_until(done, seconds=seconds, what=f"the routing of {name}")


@pytest.mark.flow
def test_a_worker_keeps_its_sessions_and_survives_the_loss_of_either_server(live: Live) -> None:
    live.start("worker")
    routed(live, "first", seconds=60)
    before = sessions()
    with redis.Redis.from_url(live.valkey.url) as client:
        ring(live, 1000)
        wait_until(lambda: client.llen("events") == 0, seconds=60, what="1,000 tasks")
    assert sessions() - before < 20, "Celery closes the connection around every task"

    # Every session is ended: a task may fail, the next one works.
    with psycopg.connect(live.postgres.url_of("postgres"), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = %s",
            [connection.settings_dict["NAME"], "carillon-worker"],
        )
    routed(live, "after-terminate")

    with Connection(live.valkey.url) as sending:
        Producer(sending.channel(), Exchange("events", type="direct")).publish(
            {"task": "events.route"}, routing_key="events", serializer="pickle", retry=False
        )
    routed(live, "after-pickle")

    live.valkey.restart()
    routed(live, "after-restart", seconds=45)
    assert live.children["worker"].poll() is None


@pytest.mark.flow
def test_what_a_task_tells_flower_comes_together_and_whole(live: Live) -> None:
    live.start("worker")
    routed(live, "first", seconds=60)
    messages: list[list[dict[str, Any]]] = []
    with Connection(live.valkey.url) as listening:
        exchange = get_exchange(listening, name=app.conf.event_exchange)
        queue = Queue("listening", exchange, routing_key="task.#", auto_delete=True)

        def told(task: str) -> list[list[str]]:
            """What each message says of the task."""
            with suppress(TimeoutError):
                listening.drain_events(timeout=0.1)
            found = [[event["type"] for event in message if event["uuid"] == task] for message in messages]
            return list(filter(None, found))

        def succeeded(task: str) -> bool:
            return "task-succeeded" in chain(*told(task))

        with listening.Consumer(queue, callbacks=[lambda body, _: messages.append(body)], accept=["json"]):
            number = 0
            for _ in range(10):
                task = app.send_task("events.route", connection=listening).id
                wait_until(partial(succeeded, task), seconds=10, what="its success")
                assert list(chain(*told(task))) == ["task-received", "task-started", "task-succeeded"]
                number += len(told(task))
            assert number < 20  # where one takes its time, it may be two or three


def sessions() -> int:
    """How many sessions this database has ever had."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        (count,) = cursor.fetchone() or (0,)
        return int(count)


@pytest.mark.parametrize(
    ("url", "redis_url", "backend", "quorum", "events"),
    [
        ("redis://cache:6379/1", "redis://cache:6379/1", "RedisCache", False, True),
        ("amqp://guest:guest@rabbit:5672//", "", "DatabaseCache", True, True),
        ("sqs://key:secret@localhost:4566/", "", "DatabaseCache", False, False),
    ],
)
def test_the_brokers_url_alone_decides_the_rest(
    url: str, redis_url: str, backend: str, quorum: bool, events: bool
) -> None:
    environment = {
        **os.environ,
        "CELERY_BROKER_URL": url,
        "REDIS_URL": "",
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }
    told = subprocess.run([sys.executable, "-c", TELL], env=environment, check=True, capture_output=True, text=True)
    said = json.loads(told.stdout)
    assert (said["redis"], said["cache"].rpartition(".")[2]) == (redis_url, backend)
    assert said["arguments"] == ({"x-queue-type": "quorum"} if quorum else {})
    assert (said["events"], said["control"]) == (events, events)
    assert said["options"]["max_retries"] == 1
    assert said["options"].get("confirm_publish", False) is quorum


TELL = """
import json
from django.conf import settings
from project import celeryconfig as celery
print(json.dumps({
    "redis": settings.REDIS_URL, "cache": settings.CACHES["default"]["BACKEND"],
    "arguments": celery.task_queues[0].queue_arguments, "options": celery.broker_transport_options,
    "events": celery.worker_send_task_events, "control": celery.worker_enable_remote_control}))
"""


def test_a_channel_keeps_its_client_as_long_as_its_connections(live: Live) -> None:
    with Connection(live.valkey.url) as connection:
        channel: Any = connection.default_channel
        with channel.conn_or_acquire() as one, channel.conn_or_acquire() as other:
            assert one is other
            assert one is not channel.client  # which waits for messages
        channel._disconnect_pools()  # as after a fork, or when a connection is lost
        with channel.conn_or_acquire() as new:
            assert new is not one
            assert new.ping()


@pytest.mark.parametrize(("task", "copies"), [("events.route", 0), ("workflows.answered", 1)])
def test_redis_keeps_a_copy_only_of_a_message_that_is_work(live: Live, task: str, copies: int) -> None:
    """A lost bell the clock finds; of a foreign worker's answer the message is all there is."""
    taken: list[Message] = []
    with Connection(live.valkey.url) as connection, redis.Redis.from_url(live.valkey.url) as client:
        app.send_task(task, queue="events", connection=connection)
        channel: Any = connection.default_channel
        with connection.Consumer(app.amqp.queues["events"](channel), on_message=taken.append):
            while not taken:
                connection.drain_events(timeout=5)
            assert client.hlen("unacked") == copies
            taken[0].ack()
            assert client.hlen("unacked") == 0
            assert not channel.qos._delivered.keys() - channel.qos._dirty


def test_the_cache_keeps_its_client(live: Live) -> None:
    one = RedisCache(live.valkey.url, {})
    other = RedisCache(live.valkey.url, {})
    assert one.add("kept", 1)
    assert other.get("kept") == 1
    assert one._cache.get_client("a", write=True) is one._cache.get_client("b", write=True)


@pytest.fixture(scope="module")
def begun() -> dict[str, Any]:
    """What a worker knows and allows before and after its beginning."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings"}
    told = subprocess.run([sys.executable, "-c", BEGIN], env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def test_a_worker_knows_all_actions_and_channels_before_its_pool_is_made(begun: dict[str, Any]) -> None:
    """Or each process of the pool would import them at its first event, which then waits for a quarter of a second."""
    assert begun["before"] == []
    assert {"workflows.actions.notify", "notifications.channels.slack"} == set(begun["after"])


def test_a_child_may_grow_whatever_it_weighs_from_the_start(begun: dict[str, Any]) -> None:
    """Or one with the libraries of own code would be replaced after every task, and bells would wait meanwhile."""
    assert begun["weight"] > 400_000
    assert begun["limit"] > begun["weight"] + 150_000


BEGIN = """
import json, sys
import django
from billiard.compat import mem_rss
django.setup()
from project.celery import app
def loaded():
    plugins = ("workflows.actions.notify", "notifications.channels.slack")
    return [name for name in plugins if name in sys.modules]
before = loaded()
heavy = b"x" * 400_000_000
worker = app.Worker(hostname="begun@here", pool="prefork", concurrency=1)
print(json.dumps({"before": before, "after": loaded(), "weight": mem_rss(), "limit": worker.max_memory_per_child}))
"""
