"""The pump: keeps work with the far side of the network going round in this process, after the task that woke it ended.

Two threads. The pump talks to PostgreSQL: it claims, hands jobs to the loop, and records outcomes in bulk as they come.
The loop (asyncio) talks to the world. So a slow far side keeps nobody waiting but itself, and one process has hundreds
of attempts under way with one database connection.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import structlog
from celery.signals import worker_shutdown, worker_shutting_down
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections, connection

from project.transport import Transport

log = structlog.get_logger(__name__)

FLUSH_AFTER: Final = 0.02  # seconds that an outcome waits for company
FLUSH_AT: Final = 100  # outcomes that wait for nobody
PAUSE: Final = 0.5  # seconds between two tries when PostgreSQL is away
PATIENCE: Final = 8.0  # seconds that the end of the process waits for attempts under way
IDLE: Final = 5.0  # seconds after which the database connection is checked before it is used
BEGIN_WITHIN: Final = 5.0  # seconds from the claim, which began the lease, until an attempt has to begin

Job = TypeVar("Job")
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Claimed(Generic[Job, Done]):
    """What a claim took. `over` came to their end without an attempt; `again_in`: seconds until another claim pays.

    `more`: when an attempt has ended, another claim is worth while.
    """

    jobs: Sequence[Job] = ()
    over: Sequence[Done] = ()
    more: bool = False
    again_in: float | None = None


class Pump(ABC, Generic[Job, Done]):
    """`drain` wakes it, `stop` ends it. It starts its threads when it is first woken.

    Subclasses say how to claim, perform and record. `slots`: attempts under way in one process.
    """

    name: str

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.under_way: Counter[Hashable] = Counter()  # by lane; guarded by _changed
        self._changed = threading.Condition()
        # Guarded by _changed:
        self._asked = 0  # drains so far
        self._answered = 0  # the drains that had asked before the last claim began
        self._claimed = 0  # what claims took since a drain last told
        self._done: list[Done] = []
        self._first_done = 0.0
        self._accepting = True
        # The pump's own:
        self._more = False
        self._wake_at: float | None = None
        self._used = 0.0
        self._thread: threading.Thread | None = None
        self._world = _World()

    @abstractmethod
    def lane(self, job: Job) -> Hashable:
        """What the job is counted under in `under_way`."""

    @abstractmethod
    def claim(self, free: int) -> Claimed[Job, Done]:
        """Lease up to `free` due rows. In the pump's thread."""

    @abstractmethod
    async def perform(self, job: Job, transport: Transport) -> Done:
        """One attempt, whatever becomes of it: raises nothing, also when it is cancelled. In the loop."""

    @abstractmethod
    def put_back(self, job: Job) -> Done:
        """What to record of a job that was claimed too long ago to be begun: it comes due again."""

    @abstractmethod
    def record(self, dones: Sequence[Done]) -> float | None:
        """Store outcomes in one transaction; returns the seconds until the first of what this made due, if any."""

    def drain(self, *, patience: float = 2.0) -> dict[str, int]:
        """Have what is due claimed; says how much was, and does not wait until it is performed.

        When PostgreSQL does not answer within `patience` seconds, nothing is said; the pump goes on trying by itself.
        """
        with self._changed:
            if not self._accepting:
                return {}
            if self._thread is None:
                self._world.start(self.name)
                self._thread = threading.Thread(target=self._run, name=f"{self.name}-pump", daemon=True)
                self._thread.start()
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
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._changed:
            self._changed.wait_for(lambda: not self.under_way.total(), patience)
        self._world.break_off()
        thread.join(max(patience, 1.0))
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
                if not self._accepting and not self._done and not self.under_way.total():
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
            alone = not self.under_way.total() or len(self._done) >= FLUSH_AT
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
            ripe = waited >= FLUSH_AFTER or len(self._done) >= FLUSH_AT or not self.under_way.total()
            return list(self._done) if ripe else []

    def _flush(self, dones: Sequence[Done]) -> None:
        try:
            self._wake_in(self.record(dones))
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
                self._wake_in(self.record([done]))
            except (OperationalError, InterfaceError):
                raise
            except Exception:  # whatever is wrong with this one, the others are recorded; its lease runs out
                log.exception("outcome not recorded", outcome=str(done)[:500])

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
            free = self.slots - self.under_way.total()
        if self._wake_at is not None and self._wake_at <= time.monotonic():
            self._wake_at = None  # that is now
        begin_by = time.monotonic() + BEGIN_WITHIN
        claimed = self.claim(free) if free > 0 else Claimed[Job, Done](more=True)
        self._more = claimed.more
        self._wake_in(claimed.again_in)
        with self._changed:
            self.under_way.update(map(self.lane, claimed.jobs))
            self._add_done(claimed.over)
            self._claimed += len(claimed.jobs) + len(claimed.over)
            self._answered = asked
            self._changed.notify_all()
        self._world.do([self._attempt(job, begin_by) for job in claimed.jobs])

    def _recover(self, error: Exception) -> None:
        if isinstance(error, DatabaseError | InterfaceError):
            log.warning("no database, trying again", error=" ".join(str(error).split()))
        else:
            log.exception("the pump stumbled, and goes on", pump=self.name)
        try:
            connection.close()
        except Exception as closing:
            log.info("connection not closed", error=str(closing))
        time.sleep(PAUSE)
        self._wake_in(0.0)

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _attempt(self, job: Job, begin_by: float) -> None:
        # After a standstill the lease may be over and the work another's: what was not begun is not begun any more.
        late = time.monotonic() > begin_by
        done = self.put_back(job) if late else await self.perform(job, self._world.transport)
        with self._changed:
            self.under_way[self.lane(job)] -= 1
            self._add_done([done])
            if len(self._done) in (1, FLUSH_AT) or not self.under_way.total():  # else the pump has nothing to do yet
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

    def start(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.transport = Transport()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"{name}-loop", daemon=True)
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


# --- this process's pumps --------------------------------------------------------------------------------------------

P = TypeVar("P", bound=Pump[Any, Any])

_pumps: dict[type[Pump[Any, Any]], Pump[Any, Any]] = {}
_lock = threading.Lock()


def one_per_process(kind: type[P]) -> Callable[[], P]:
    """A function that returns this process's pump of that kind, which ends with the process."""

    def the_one() -> P:
        with _lock:
            if kind not in _pumps:
                _pumps[kind] = kind()  # type: ignore[call-arg]  # a kind knows its slots
            pump = _pumps[kind]
        assert isinstance(pump, kind)
        return pump

    return the_one


@worker_shutting_down.connect
def _finish(**kwargs: Any) -> None:
    for pump in list(_pumps.values()):
        pump.stop_claiming()


@worker_shutdown.connect
def _end(**kwargs: Any) -> None:
    """Stop them all, in the time that one has."""
    pumps, deadline = list(_pumps.values()), time.monotonic() + PATIENCE
    for pump in pumps:
        pump.stop_claiming()
    for pump in pumps:
        pump.stop(max(0.0, deadline - time.monotonic()))


atexit.register(_end)


def _forked() -> None:
    # The parent's threads do not exist in the child, and its lock may have been held when the process split.
    global _lock
    _lock = threading.Lock()
    _pumps.clear()


os.register_at_fork(after_in_child=_forked)
