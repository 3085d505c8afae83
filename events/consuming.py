"""One source's consumer: receives a batch, stores it, tells the broker, and comes back whatever went away meanwhile.

The broker hears of a message only after the commit. Killed before that, the process leaves it to the broker to deliver
the message again, and the second time it is a duplicate. So nothing is lost, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

import structlog
from django.db import Error as DatabaseError
from django.db import connection

from events import intake
from events.brokers.base import Broker, Message, Reader
from events.catalogue import Bucket, Hook

log = structlog.get_logger(__name__)

R = TypeVar("R")

PROCESS: Final = "consumer"  # how the process is called that runs them
CHATTY: Final = ("aiokafka", "aio_pika", "aiormq", "nats", "mqtt", "botocore", "boto3", "urllib3")

CONNECT_WITHIN: Final = 20.0  # seconds
CLOSE_WITHIN: Final = 5.0
LOOK_EVERY: Final = 5.0  # seconds between two looks at how much waits at the broker
LOOK_WITHIN: Final = 8.0
STAND_BY: Final = 1.0  # seconds until the next look whether the other is gone
ENOUGH: Final = 0.2  # seconds of a rate limit that a batch waits for
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
LONGEST_PAUSE_OF_DATABASE: Final = 5.0  # a commit is tried again soon: the messages are in our hands
MOST_SAID: Final = 300


def hush_clients() -> None:
    """What clients of brokers log of a lost connection, some twenty times a second, consumers say once."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


class State(StrEnum):
    """What a consumer does."""

    STARTING = "starting"
    CONSUMING = "consuming"
    STANDBY = "standing by"  # for the death of another, where only one may consume
    AWAY = "broker away"  # it cannot be reached, refuses us, or has not what is consumed; tried again
    NO_DATABASE = "database away"  # what was received is kept in hand, and tried again
    UNUSABLE = "not set up right"  # until the source is changed


@dataclass
class Status:
    """How a consumer is doing, as its heartbeat tells."""

    state: State = State.STARTING
    since: float = field(default_factory=time.time)
    error: str = ""
    lag: int | None = None
    last: float | None = None  # when a batch was stored last, in seconds since 1970
    delay: float | None = None  # seconds from the broker to the commit, of the oldest message of that batch

    def told(self) -> dict[str, Any]:
        return {**self.__dict__, "state": self.state.value}


class Pauses:
    """Exponential, with jitter, so that consumers that lost a broker together do not come back together."""

    def __init__(self, longest: float) -> None:
        self._longest, self._failures = longest, 0

    def next(self) -> float:
        self._failures += 1
        return min(self._longest, FIRST_PAUSE * 2.0 ** min(self._failures, 16)) * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._failures = 0


class Seat:
    """A number that no other consumer of the source has, in any process: an advisory lock of this thread's session.

    Who was killed has lost it with the session, and whoever starts next has the lowest that is free. Brokers that keep
    something for a client by its name know each seat by a name. Who goes in order leaves it before: a session's end is
    not the end of its process, and who starts meanwhile would have another name.
    """

    def __init__(self, source: str) -> None:
        self._key = zlib.crc32(f"consumer of {source}".encode()) - 2**31  # PostgreSQL's integers are signed
        self._session: object = None
        self._number = 0

    @property
    def kept(self) -> bool:
        return self._session is not None and connection.connection is self._session

    def take(self, most: int) -> int | None:
        """The number, below `most`; the one of before as long as the session is the same. None: all are taken.

        Raises DatabaseError.
        """
        if self.kept:
            return self._number
        with connection.cursor() as cursor:
            for number in range(most):
                cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [self._key, number])
                if cursor.fetchone() == (True,):
                    self._number, self._session = number, connection.connection
                    return number
        return None

    def leave(self) -> None:
        """Somebody else may have it. Raises DatabaseError."""
        if self.kept:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [self._key, self._number])
        self._session = None


class SeatLost(Exception):
    """The session with PostgreSQL is another, and the name that it kept for us may be somebody else's."""


class Consumer:
    """`run` consumes one source until `stop` is set. Any number may run, in any processes: they share the work."""

    def __init__(self, name: str, feed: Hook) -> None:
        self.name, self.feed = name, feed
        self.stop = asyncio.Event()
        self.status = Status()
        self._seat = Seat(name)
        # Django's connection is the thread's: one for each source, and the seat is a lock of its session.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"consume-{name}")
        self._pauses = Pauses(LONGEST_PAUSE)
        self._bucket = Bucket(feed.rate_limit) if feed.rate_limit else None
        self._look_at = 0.0

    async def run(self) -> None:
        """Whatever the broker or PostgreSQL do is told, and tried again: this ends only when told to."""
        try:
            while not self.stop.is_set():
                try:
                    await self._connected()
                except SeatLost:
                    log.info("connecting anew, by another name perhaps", source=self.name)
                except DatabaseError as error:
                    await self._again(State.NO_DATABASE, error)
                except Exception as error:  # clients of brokers are foreign code; whatever they raise, the rest goes on
                    await self._again(State.AWAY, error)
        finally:
            await self._in_thread(self._disconnect)
            self._thread.shutdown(wait=False)

    async def _connected(self) -> None:
        """From opening a connection to losing it; or nothing but waiting, when the source cannot be used."""
        broker = self._broker()
        if broker is None:
            await self.stop.wait()
            return
        seat = await self._in_thread(self._seat.take, broker.most)
        if seat is None:
            self._is(State.STANDBY)
            await pause(STAND_BY, self.stop)
            return
        async with asyncio.timeout(CONNECT_WITHIN):
            reader = await broker.connect(f"carillon-{self.name}-{seat}")
        try:
            self._is(State.CONSUMING)
            while not self.stop.is_set():
                await self._turn(reader, broker.batch)
        finally:
            await self._closed(reader)

    def _broker(self) -> Broker | None:
        """The source's broker; None when it is not set up right."""
        broker, problem = self.feed.adapter, self.feed.problem
        if broker is not None:
            problem = "; ".join(f"{path}: {said}" if path else said for path, said in broker.check())
        if problem:
            self._is(State.UNUSABLE, problem)
            return None
        assert isinstance(broker, Broker)
        return broker

    async def _turn(self, reader: Reader, limit: int) -> None:
        """One batch: received, stored, acknowledged."""
        if self.feed.rate_limit and self._bucket:
            interval = self.feed.rate_limit.interval
            least = max(1.0, min(limit, ENOUGH / interval))  # not one by one, just because that is the rate
            if (missing := least - self._bucket.left) > 0:
                await pause(missing * interval, self.stop)  # what is over the rate waits at the broker
                return
            limit = min(limit, int(self._bucket.left))
        messages = await reader.receive(limit, reader.patience)
        if messages and await self._kept(messages):
            await reader.acknowledge(messages)
            self._pauses.reset()
        if time.monotonic() >= self._look_at:
            await self._look(reader)

    async def _kept(self, messages: Sequence[Message]) -> bool:
        """Try until PostgreSQL has them. False: told to stop before; the broker will deliver them again."""
        pauses = Pauses(LONGEST_PAUSE_OF_DATABASE)
        while True:
            try:
                await self._in_thread(intake.keep, self.name, self.feed, messages)
            except DatabaseError as error:
                await self._again(State.NO_DATABASE, error, pauses)
                if self.stop.is_set():
                    return False
            else:
                break
        self._is(State.CONSUMING)
        self.status.last = time.time()
        came = [message.at.timestamp() for message in messages if message.at]
        self.status.delay = max(0.0, self.status.last - min(came)) if came else None
        if self._bucket:
            self._bucket.take(len(messages))
        return True

    async def _look(self, reader: Reader) -> None:
        """How much waits at the broker, and whether our name is still ours."""
        self._look_at = time.monotonic() + LOOK_EVERY
        async with asyncio.timeout(LOOK_WITHIN):  # some clients never say that the broker has gone
            self.status.lag = await reader.lag()
        if not await self._in_thread(lambda: self._seat.kept):
            raise SeatLost

    async def _closed(self, reader: Reader) -> None:
        """Whatever comes of it, the connection is gone. In a task of its own: some clients cancel themselves."""
        closing = asyncio.create_task(reader.close())
        await asyncio.wait([closing], timeout=CLOSE_WITHIN)
        if not closing.done():
            closing.cancel()
        elif not closing.cancelled() and (error := closing.exception()):
            log.info("connection not closed", source=self.name, error=_line(error))

    async def _again(self, state: State, error: Exception, pauses: Pauses | None = None) -> None:
        self._is(state, _line(error))
        if isinstance(error, DatabaseError):
            await self._in_thread(self._disconnect)  # a dead one would not be replaced by itself
        await pause((pauses or self._pauses).next(), self.stop)

    def _is(self, state: State, error: str = "") -> None:
        """Take note, and tell the log when that is news."""
        self.status.error = error
        if state is self.status.state:
            return
        self.status.state, self.status.since = state, time.time()
        tell = log.info if state in (State.CONSUMING, State.STANDBY) else log.warning
        tell(state.value, source=self.name, adapter=self._adapter, **({"error": error} if error else {}))

    def _disconnect(self) -> None:
        """End the session of the thread that calls."""
        with suppress(DatabaseError):  # it may be dead
            self._seat.leave()
        connection.close()

    @property
    def _adapter(self) -> str:
        return self.feed.adapter.name if self.feed.adapter else ""

    async def _in_thread(self, work: Callable[..., R], *arguments: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Wait for so long, or until `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _line(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return (" ".join(str(error).split()) or type(error).__name__)[:MOST_SAID]
