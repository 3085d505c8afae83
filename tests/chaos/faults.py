"""What can go wrong, one small function each. Add a fault by writing another.

A fault causes its trouble, yields the seconds that it is to last, and mends it; it may do so several times. It must not
wait for anything by itself, because a second fault may be going on beside it. What has to be true meanwhile and after
it stands in its decorator.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

import psutil
import psycopg
import redis

from notifications.delivery import LEASE_MARGIN
from tests.flow.job import OTHER, OTHER_AT_ONCE, WEBHOOK_TIMEOUT, Job, Load
from tests.live import Live
from tests.sinks import Answer

LEASE: Final = WEBHOOK_TIMEOUT + LEASE_MARGIN  # seconds after which a dead sender's deliveries come due again

GRACE: Final = 30.0  # seconds from SIGTERM to SIGKILL at a deployment; Kubernetes gives as many


@dataclass(frozen=True)
class Site:
    """Where faults happen."""

    job: Job
    load: Load
    random: random.Random

    @property
    def live(self) -> Live:
        return self.job.live

    def child_of(self, name: str) -> int:
        """The busiest child of the process: a worker's pool process or a web server's."""
        children = psutil.Process(self.live.children[name].pid).children(recursive=True)
        return max(children, key=lambda child: sum(child.cpu_times()[:2])).pid

    def sessions(self) -> list[int]:
        """PostgreSQL's processes that serve Carillon's."""
        with psycopg.connect(self.live.postgres.url_of("postgres"), connect_timeout=3) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'carillon-%'"
            return [pid for (pid,) in connection.execute(query).fetchall()]


Course: TypeAlias = Callable[[Site], Iterator[float]]


@dataclass(frozen=True)
class Fault:
    """A fault, and what is expected of Carillon meanwhile; of two at once, what both let hold."""

    name: str
    target: str  # two faults with one target do not happen at once
    course: Course
    done_within: float  # seconds from its mending until everything accepted by then is done
    told_within: float  # the healthy channel's longest time from 202 to the far side
    refuses: bool  # whether producers may be refused, or have to wait for an answer


FAULTS: Final[dict[str, Fault]] = {}


def fault(
    name: str, *, target: str, done_within: float = 60, told_within: float = inf, refuses: bool = False
) -> Callable[[Course], Course]:
    """Put the decorated course on the list."""

    def register(course: Course) -> Course:
        FAULTS[name] = Fault(name, target, course, done_within, told_within, refuses)
        return course

    return register


# --- processes -------------------------------------------------------------------------------------------------------


@fault("kill -9 of web", target="web", refuses=True)
def web_killed(site: Site) -> Iterator[float]:
    site.live.kill("web")
    yield 0.5
    site.live.start("web")


@fault("kill -9 of a web server's child", target="web", refuses=True)
def web_child_killed(site: Site) -> Iterator[float]:
    os.kill(site.child_of("web"), signal.SIGKILL)
    yield 1
    # Granian ends when it loses two within 5.5 s. Whoever supervises it starts it again, as compose and `make run` do.
    if site.live.children["web"].poll() is not None:
        site.live.start("web")


@fault("SIGTERM to web", target="web", refuses=True)
def web_stopped(site: Site) -> Iterator[float]:
    yield from _stopped(site, "web")


@fault("kill -9 of the worker", target="worker")
def worker_killed(site: Site) -> Iterator[float]:
    site.live.kill("worker")
    yield 1
    site.live.start("worker")


@fault("kill -9 of a prefork child", target="worker", told_within=20)
def prefork_child_killed(site: Site) -> Iterator[float]:
    for _ in range(3):
        site.load.burst(100)
        os.kill(site.child_of("worker"), signal.SIGKILL)
        yield 0.5


@fault("SIGTERM to the worker in a batch", target="worker")
def worker_stopped(site: Site) -> Iterator[float]:
    site.load.burst(300)
    yield 0.3
    yield from _stopped(site, "worker")


@fault("kill -9 of the sender", target="sender", done_within=LEASE + 60)
def sender_killed(site: Site) -> Iterator[float]:
    yield from _under_way(site, Answer(delay=1))
    site.live.kill("sender")
    site.job.hooks.answers.pop(OTHER, None)
    yield 0.5
    site.live.start("sender")


def _under_way(site: Site, answer: Answer) -> Iterator[float]:
    """Until attempts at the other endpoint are under way; from now on it says this, in its own time."""
    site.job.hooks.answers[OTHER] = [answer]
    site.load.burst(50, ["channel:other"])
    before, given = len(site.job.hooks.to(OTHER)), time.monotonic() + 30
    while len(site.job.hooks.to(OTHER)) < before + OTHER_AT_ONCE // 2 and time.monotonic() < given:
        yield 0.1


@fault("SIGTERM to the sender in a batch", target="sender")
def sender_stopped(site: Site) -> Iterator[float]:
    site.load.burst(200)
    yield 0.3
    yield from _stopped(site, "sender")


@fault("the sender freezes, and another takes over its leases", target="sender", done_within=LEASE + 60)
def sender_frozen(site: Site) -> Iterator[float]:
    yield from _under_way(site, Answer(503, delay=3))  # what it will have to tell when it is no longer asked
    os.killpg(site.live.children["sender"].pid, signal.SIGSTOP)
    held = {call.headers["webhook-id"] for call in site.job.hooks.to(OTHER) if call.status == 503}
    site.job.hooks.answers.pop(OTHER, None)
    site.live.start("sender-2")
    given = time.monotonic() + LEASE + 45
    while held - _taken(site) and time.monotonic() < given:
        yield 0.2
    os.killpg(site.live.children["sender"].pid, signal.SIGCONT)
    yield 3
    yield from _stopped(site, "sender-2", again=False)


def _taken(site: Site) -> set[str]:
    """The notifications that the other endpoint said yes to."""
    return {call.headers["webhook-id"] for call in site.job.hooks.to(OTHER) if call.status == 200}


@fault("kill -9 of the clock", target="clock", told_within=20)
def clock_killed(site: Site) -> Iterator[float]:
    site.live.kill("clock")
    yield 2
    site.live.start("clock")


@fault("two clocks, and one dies", target="clock", told_within=20)
def two_clocks(site: Site) -> Iterator[float]:
    site.live.start("clock-2")
    yield 3
    site.live.kill("clock")
    yield 2
    site.live.start("clock")
    yield 2
    yield from _stopped(site, "clock-2", again=False)


def _stopped(site: Site, name: str, *, again: bool = True) -> Iterator[float]:
    """SIGTERM, as at a deployment; AssertionError when the process has not gone by itself in the time it is given."""
    site.live.children[name].terminate()
    given = time.monotonic() + GRACE
    while time.monotonic() < given:
        yield 0.2
        if site.live.children[name].poll() is not None:
            break
    else:
        raise AssertionError(f"{name} does not end by SIGTERM within {GRACE:.0f} s")
    site.live.stop(name)
    if again:
        site.live.start(name)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@fault("pg_terminate_backend on all sessions", target="PostgreSQL", refuses=True)
def sessions_terminated(site: Site) -> Iterator[float]:
    for _ in range(3):
        with psycopg.connect(site.live.postgres.url_of("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        yield 0.7


@fault("kill -9 of a PostgreSQL backend", target="PostgreSQL", refuses=True)
def backend_killed(site: Site) -> Iterator[float]:
    with suppress(ProcessLookupError):  # a session may have ended meanwhile
        os.kill(site.random.choice(site.sessions()), signal.SIGKILL)
    yield 1


@fault("PostgreSQL stopped and started", target="PostgreSQL", refuses=True)
def postgres_restarted(site: Site) -> Iterator[float]:
    site.live.postgres.stop()
    yield 3
    site.live.postgres.start()


@fault("kill -9 of PostgreSQL", target="PostgreSQL", refuses=True)
def postgres_killed(site: Site) -> Iterator[float]:
    site.live.postgres.kill()
    yield 1
    site.live.postgres.start()


# --- Redis -----------------------------------------------------------------------------------------------------------


@fault("Redis stopped and started", target="Redis")
def redis_stopped(site: Site) -> Iterator[float]:
    site.live.valkey.stop()
    yield 6
    site.live.valkey.start()


@fault("Redis freezes (SIGSTOP)", target="Redis")
def redis_frozen(site: Site) -> Iterator[float]:
    site.live.valkey.send_signal(signal.SIGSTOP)  # hangs: nobody is refused, nobody answers
    yield 8
    site.live.valkey.send_signal(signal.SIGCONT)


@fault("FLUSHALL, again and again", target="Redis", told_within=20)
def redis_flushed(site: Site) -> Iterator[float]:
    with redis.Redis.from_url(site.live.valkey.url) as client:
        for _ in range(10):
            client.flushall()  # messages, bells and Celery's own keys are gone
            yield 0.2


@fault("Redis flaps", target="Redis")
def redis_flaps(site: Site) -> Iterator[float]:
    for _ in range(4):
        site.live.valkey.kill()
        yield 0.5
        site.live.valkey.start()
        yield 0.7


# --- the far side ----------------------------------------------------------------------------------------------------


@fault("an endpoint hangs", target="far side", told_within=20)
def endpoint_hangs(site: Site) -> Iterator[float]:
    site.job.hooks.answers[OTHER] = [Answer(503, delay=30)]
    site.load.burst(30, ["channel:other"])
    yield 6
    site.job.hooks.answers.pop(OTHER, None)


@fault("one channel is flooded", target="far side", told_within=20)
def channel_flooded(site: Site) -> Iterator[float]:
    site.job.hooks.answers[OTHER] = [Answer(delay=0.05)]
    for _ in range(2):
        site.load.burst(400, ["channel:other"])
        yield 2
    site.job.hooks.answers.pop(OTHER, None)


@fault("the mail server is away", target="far side", told_within=20)
def mail_server_away(site: Site) -> Iterator[float]:
    site.job.mails.stop()
    yield 3
    site.job.mails.start()
