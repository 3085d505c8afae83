"""Celery as Carillon uses it: messages are bells, rows are the work (docs/architecture.md)."""

import os
import time
from typing import Any

import structlog
from billiard.compat import mem_rss
from celery import Celery
from celery.fixups.django import DjangoWorkerFixup  # type: ignore[attr-defined]  # celery-types lacks it
from celery.signals import heartbeat_sent, worker_init
from celery.worker import WorkController
from celery.worker.consumer import Consumer
from celery.worker.consumer.delayed_delivery import DelayedDelivery
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from kombu import Message
from kombu.transport import virtual
from kombu.transport.redis import Channel, QoS

from project.memory import settle
from project.registry import load_all

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")


def _close_old_connections(self: DjangoWorkerFixup, **kwargs: Any) -> None:
    close_old_connections()


# Celery closes the database connection around every task (146 tasks/s instead of 917) and ignores CONN_MAX_AGE.
# Django's own rule keeps a healthy connection and drops a dead one; tests/project/test_celery.py counts sessions.
DjangoWorkerFixup.close_database = _close_old_connections

# A worker that loses its broker puts back the messages it has not begun, fails at that, and ends (kombu 5.7.0). Bells
# need not be put back. tests/chaos/faults.py stops Redis under load.
Channel.do_restore = False

_new_client = Channel._create_client  # type: ignore[attr-defined]  # celery-types lacks it


def _kept_client(self: Channel, asynchronous: bool = False) -> Any:
    if asynchronous:
        return _new_client(self, asynchronous=True)
    pool, client = self.__dict__.get("_kept", (None, None))
    if pool is not self.pool:
        client = _new_client(self)
        self.__dict__["_kept"] = (self.pool, client)
    return client


# kombu makes a client for every command it sends, which costs twice the command: redis-py 8 fills a dictionary for it.
Channel._create_client = _kept_client  # type: ignore[attr-defined]


class _Taken(QoS):
    """What a worker has taken and not acknowledged. kombu keeps a copy of each in Redis, which a bell does not need."""

    def append(self, message: Message, delivery_tag: str) -> None:
        way = virtual.QoS if _is_bell(message) else QoS
        way.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        message = self._delivered.get(delivery_tag)  # type: ignore[union-attr]  # None in its class only
        way = virtual.QoS if message and _is_bell(message) else QoS
        way.ack(self, delivery_tag)


def _is_bell(message: Message) -> bool:
    task = app.tasks.get(message.headers.get("task", ""))
    return task is not None and not task.acks_late


# To write the copy and to delete it costs as much as to fetch the message.
Channel.QoS = _Taken

TOLD_AFTER = 0.25  # seconds


def _tell_soon(self: Any) -> None:
    now = time.monotonic()
    if self.hub and now >= getattr(self, "_telling_by", 0.0):
        self._telling_by = now + TOLD_AFTER
        self.hub.call_later(TOLD_AFTER, self._flush_events)


# A task tells Flower three things. Celery sends each by itself, and the first before the task is begun.
# (celery-types has the method return a function.)
Consumer.on_send_event_buffered = _tell_soon  # type: ignore[assignment, method-assign]

# On quorum queues a worker would declare 28 queues and exchanges for tasks with an eta, and there are none.
DelayedDelivery.include_if = lambda self, c: False  # type: ignore[method-assign]

log = structlog.get_logger(__name__)

app = Celery("carillon")
app.config_from_object("project.celeryconfig")
app.autodiscover_tasks()


@worker_init.connect
def _settle(sender: WorkController, **kwargs: Any) -> None:
    """Before the pool is made, so that its processes share what is settled, and none keeps its first event waiting."""
    load_all()
    settle()
    # What they share weighs in each of them. (celery-types lacks the attribute.)
    sender.max_memory_per_child += mem_rss()  # type: ignore[attr-defined]


BEAT_EVERY = 5.0
_last_beat = 0.0


@heartbeat_sent.connect
def _say_alive(sender: Any, **kwargs: Any) -> None:
    """Leave word in the database that this worker lives, and which queues it serves."""
    from project.models import Heartbeat

    global _last_beat
    if time.monotonic() - _last_beat < BEAT_EVERY:
        return
    _last_beat = time.monotonic()
    try:
        Heartbeat.beat(
            sender.eventer.hostname,
            queues=[queue.name for queue in sender.eventer.app.amqp.queues.consume_from.values()],
        )
    except DatabaseError as error:
        log.info("heartbeat not stored", error=str(error).strip())
    finally:
        connection.close()  # a pool's child must not inherit it
