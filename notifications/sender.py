"""The sender: keeps deliveries going round in this process, after the task that woke it has ended.

Two threads. The pump talks to PostgreSQL: it claims, hands jobs to the loop, and records outcomes in bulk as they come.
The loop (asyncio) talks to the world. So a slow endpoint keeps nobody waiting but itself, and one process has hundreds
of attempts under way with one database connection.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections, connection

from notifications.catalogue import LiveChannel
from notifications.channels.base import Receipt, SendError
from notifications.delivery import Claimed, Done, Job, attempt, claim, record
from notifications.lanes import Window
from notifications.transport import Transport

log = structlog.get_logger(__name__)

SLOTS: Final = 256  # attempts under way in one process
FLUSH_AFTER: Final = 0.02  # seconds that an outcome waits for company
FLUSH_AT: Final = 100  # outcomes that wait for nobody
PAUSE: Final = 0.5  # seconds between two tries when PostgreSQL is away
PATIENCE: Final = 8.0  # seconds that the end of the process waits for attempts under way
IDLE: Final = 5.0  # seconds after which the database connection is checked before it is used


class Sender:
    """`drain` wakes it, `stop` ends it. It starts its threads when it is first woken."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._changed = threading.Condition()
        # Guarded by _changed:
        self._asked = 0  # drains so far
        self._answered = 0  # the drains that had asked before the last claim began
        self._claimed = 0  # what claims took since a drain last told
        self._done: list[Done] = []
        self._first_done = 0.0
        self._under_way: Counter[int] = Counter()  # by lane
        self._accepting = True
        # The pump's own:
        self._more = False
        self._wake_at: float | None = None
        self._used = 0.0
        self._windows: defaultdict[int, Window] = defaultdict(Window)
        self._pump: threading.Thread | None = None
        self._world = _World()

    def drain(self, *, patience: float = 2.0) -> dict[str, int]:
        """Have what is due claimed; says how much was, and does not wait until it is sent.

        When PostgreSQL does not answer within `patience` seconds, nothing is said; the sender goes on trying by itself.
        """
        with self._changed:
            if not self._accepting:
                return {}
            if self._pump is None:
                self._world.start()
                self._pump = threading.Thread(target=self._run, name="sender-pump", daemon=True)
                self._pump.start()
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= ticket or not self._accepting, patience)
            claimed, self._claimed = self._claimed, 0
        return {"claimed": claimed} if claimed else {}

    def stop_claiming(self) -> None:
        """From now on only finish what is under way."""
        with self._changed:
            self._accepting = False
            self._changed.notify_all()

    def stop(self, patience: float = PATIENCE) -> None:
        """Finish what is under way, for `patience` seconds; break off and record the rest; end the threads."""
        self.stop_claiming()
        pump, self._pump = self._pump, None
        if pump is None:
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way.total(), patience)
        self._world.break_off()
        pump.join(patience)
        self._world.stop()

    # --- the pump ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            try:
                self._turn()
            except Exception as error:  # the one place that keeps the thread alive: rows are safe, outcomes are kept
                self._recover(error)
        connection.close()

    def _turn(self) -> None:
        if time.monotonic() - self._used > IDLE:
            close_old_connections()
        if dones := self._ripe():
            self._flush(dones)
        if self._should_claim(flushed=bool(dones)):
            self._take()
        self._used = time.monotonic()

    def _wait(self) -> bool:
        """Sleep until there is something to do; False when everything is done and nothing more may be begun."""
        with self._changed:
            while True:
                if not self._accepting and not self._done and not self._under_way.total():
                    return False
                pause = self._pause()
                if pause is not None and pause <= 0:
                    return True
                self._changed.wait(pause)

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None: until somebody says so."""
        now = time.monotonic()
        pauses = []
        if self._done:
            alone = not self._under_way.total() or len(self._done) >= FLUSH_AT
            pauses.append(0.0 if alone else self._first_done + FLUSH_AFTER - now)
        if self._accepting:
            if self._asked > self._answered:
                pauses.append(0.0)
            if self._wake_at is not None:
                pauses.append(self._wake_at - now)
        return min(pauses, default=None)

    def _ripe(self) -> list[Done]:
        with self._changed:
            waited = time.monotonic() - self._first_done
            ripe = waited >= FLUSH_AFTER or len(self._done) >= FLUSH_AT or not self._under_way.total()
            return list(self._done) if ripe else []

    def _flush(self, dones: Sequence[Done]) -> None:
        try:
            self._wake_in(record(dones))
        except (OperationalError, InterfaceError):
            raise  # PostgreSQL is away: they are kept, and recorded when it is back
        except Exception as error:
            log.error("outcomes not recorded together, recording one by one", error=str(error), outcomes=len(dones))
            self._record_alone(dones)
        with self._changed:
            del self._done[: len(dones)]
            self._first_done = time.monotonic()

    def _record_alone(self, dones: Sequence[Done]) -> None:
        for done in dones:
            try:
                self._wake_in(record([done]))
            except (OperationalError, InterfaceError):
                raise
            except Exception:  # whatever is wrong with this one, the others are recorded; its lease runs out
                log.exception("outcome not recorded", delivery=str(done.job.leased.uid))

    def _wake_in(self, seconds: float | None) -> None:
        """Claim again after that time at the latest, without being asked."""
        if seconds is not None:
            at = time.monotonic() + seconds
            self._wake_at = at if self._wake_at is None else min(at, self._wake_at)

    def _should_claim(self, *, flushed: bool) -> bool:
        with self._changed:
            woken = self._wake_at is not None and self._wake_at <= time.monotonic()
            # Not for each slot that comes free: what is recorded together makes room together.
            refill = self._more and flushed
            return self._accepting and (self._asked > self._answered or refill or woken)

    def _take(self) -> None:
        with self._changed:
            asked = self._asked
            free = self._slots - self._under_way.total()
        if self._wake_at is not None and self._wake_at <= time.monotonic():
            self._wake_at = None  # that is now
        claimed = claim(free, self._room) if free > 0 else Claimed(more=True)
        self._more = claimed.more
        self._wake_in(claimed.again_in)
        with self._changed:
            self._under_way.update(job.leased.lane for job in claimed.jobs)
            self._add_done(claimed.over)
            self._claimed += len(claimed.jobs) + len(claimed.over)
            self._answered = asked
            self._changed.notify_all()
        self._world.do([self._send(job) for job in claimed.jobs])

    def _room(self, channel: LiveChannel) -> int:
        if not channel.enabled:
            return self._slots  # nothing is sent there, only written off
        most = min(self._windows[channel.id].size, channel.max_in_flight)
        if channel.type is not None and channel.type.concurrency is not None:
            most = min(most, channel.type.concurrency)
        return most - self._under_way[channel.id]

    def _recover(self, error: Exception) -> None:
        if isinstance(error, DatabaseError | InterfaceError):
            log.warning("no database, trying again", error=" ".join(str(error).split()))
        else:
            log.exception("the sender stumbled, and goes on")
        try:
            connection.close()
        except Exception as closing:
            log.info("connection not closed", error=str(closing))
        time.sleep(PAUSE)
        self._wake_in(0.0)

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _send(self, job: Job) -> None:
        """One attempt, whatever becomes of it."""
        started = time.monotonic()
        receipt: Receipt | None = None
        error: SendError | None = None
        try:
            async with asyncio.timeout(job.channel.timeout):
                receipt = await attempt(job, self._world.transport)
        except SendError as refusal:
            error = refusal
        except TimeoutError:
            error = SendError(f"no answer within {job.channel.timeout:g} s")
        except asyncio.CancelledError:
            error = SendError("broken off because the sender was stopped", hold=False)
        except Exception as mistake:  # a channel type is foreign code; what it raises is an outcome
            log.exception("channel type failed", channel=job.channel.name, delivery=str(job.leased.uid))
            error = SendError(f"{type(mistake).__name__}: {mistake}")
        self._finished(Done(job, receipt, error, started=started))

    def _finished(self, done: Done) -> None:
        lane, window = done.job.leased.lane, self._windows[done.job.leased.lane]
        if done.error is None:
            window.delivered(most=done.job.channel.max_in_flight)
        elif done.error.hold:
            window.troubled()
        with self._changed:
            self._under_way[lane] -= 1
            self._add_done([done])
            if len(self._done) in (1, FLUSH_AT) or not self._under_way.total():  # else the pump has nothing to do yet
                self._changed.notify_all()

    def _add_done(self, dones: Sequence[Done]) -> None:
        if dones and not self._done:
            self._first_done = time.monotonic()
        self._done += dones


class _World:
    """An event loop in a thread of its own, and what is sent with."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.transport: Transport

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.transport = Transport()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sender-loop", daemon=True)
        self._thread.start()

    def do(self, work: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run it in the loop, which is woken once; from any thread."""
        assert self._loop is not None
        if work:
            self._loop.call_soon_threadsafe(self._begin, work)

    def _begin(self, work: Sequence[Coroutine[Any, Any, None]]) -> None:
        for coroutine in work:
            task = asyncio.ensure_future(coroutine)
            self._tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self._tasks.discard)

    def break_off(self) -> None:
        """Cancel what is still running."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])

    def stop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(self.transport.close(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


_sender: Sender | None = None
_lock = threading.Lock()


def sender() -> Sender:
    """This process's sender."""
    global _sender
    with _lock:
        if _sender is None:
            _sender = Sender()
            atexit.register(_sender.stop)
        return _sender


def _forked() -> None:
    # The parent's threads do not exist in the child, and its lock may have been held when the process split.
    global _sender, _lock
    _sender, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forked)
