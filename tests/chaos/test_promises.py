"""Kill it, cut it off, flush it: what was accepted has its effects, in the database once, and nothing is left due."""

from __future__ import annotations

import os
import signal
import time

import psutil
import psycopg
import pytest
import redis
from django.db import connection

from events.models import Event
from notifications.models import Delivery
from project.models import Heartbeat
from tests.flow.job import HOOK, Job, Load, order
from tests.live import wait_until
from tests.sinks import Answer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


def routed(job: Job) -> int:
    connection.close_if_unusable_or_obsolete()  # PostgreSQL may have been restarted
    return Event.objects.filter(routed_at__isnull=False).count()


def goes_on(job: Job, *, seconds: float = 15) -> None:
    """Events accepted from now on are routed, and told, without anybody's help."""
    events, calls = routed(job), len(job.hooks.to(HOOK))
    wait_until(lambda: routed(job) > events + 5, seconds=seconds, what="routing to go on")
    wait_until(lambda: len(job.hooks.to(HOOK)) > calls + 5, seconds=seconds, what="sending to go on")


def kill_a_child(job: Job, name: str) -> None:
    """kill -9 to one child of the process, a worker's pool process or a web server's."""
    children = psutil.Process(job.live.children[name].pid).children(recursive=True)
    busiest = max(children, key=lambda child: sum(child.cpu_times()[:2]))
    os.kill(busiest.pid, signal.SIGKILL)


def test_killing_any_process_loses_nothing(job: Job) -> None:
    job.hooks.answers[HOOK] = [Answer(delay=0.05)]  # so that attempts are under way when the sender dies
    with Load(job):
        goes_on(job)
        kill_a_child(job, "worker")
        goes_on(job)
        job.live.kill("worker")
        job.live.start("worker")
        goes_on(job, seconds=30)
        job.live.kill("sender")
        job.live.start("sender")
        job.live.kill("clock")
        job.live.start("clock")
        goes_on(job, seconds=30)
        kill_a_child(job, "web")
        goes_on(job)
        job.live.kill("web")
        job.live.start("web")
        job.live.wait_ready()
    job.wait_settled(45)  # what the dead sender held comes due when its lease is over
    assert job.check() <= 200, "more was told twice than can have been under way"
    assert job.refusals[503] == 0


def test_a_dead_senders_lease_runs_out(job: Job) -> None:
    job.hooks.answers[HOOK] = [Answer(delay=1.5)]
    for n in range(5):
        job.send(f"order-{n}")
    wait_until(lambda: Delivery.objects.filter(leased=True).count() == 5, what="leases")
    job.live.kill("sender")
    job.hooks.answers[HOOK] = [Answer()]
    assert not job.settled()
    job.live.start("sender")
    job.wait_settled(40)
    assert job.check() <= 5
    assert set(Delivery.objects.exclude(to="warm-up").values_list("attempts", flat=True)) <= {1, 2}


def test_losing_redis_loses_nothing(job: Job) -> None:
    with Load(job), redis.Redis.from_url(job.live.valkey.url) as client:
        goes_on(job)
        for _ in range(5):  # messages, bells and Celery's own keys are gone
            client.flushall()
            time.sleep(0.2)
        goes_on(job)

        job.slowest = 0.0
        job.live.valkey.send_signal(signal.SIGSTOP)  # hangs: nobody is refused, nobody answers
        time.sleep(4)
        assert job.slowest < 1, "a request waited for Redis"
        goes_on(job)  # the clock does the work
        job.live.valkey.send_signal(signal.SIGCONT)
        goes_on(job)

        job.slowest = 0.0
        job.live.valkey.stop()
        stopped = time.monotonic()
        goes_on(job)
        time.sleep(max(0.0, stopped + 15 - time.monotonic()))
        assert job.slowest < 1
        assert job.refusals.total() == 0
        job.live.valkey.start()
        goes_on(job)
    job.wait_settled()
    assert job.check() == 0
    # The workers hear bells again, they are not only stood in for by the clock.
    wait_until(lambda: heard(job), seconds=45, what="bells")
    job.live.stop("clock")
    job.send("without-a-clock")
    job.wait_settled()
    job.check()


def heard(job: Job) -> bool:
    """Whether the clock could ring for the event that has just been sent, or had no need to."""
    job.send(f"bell-{time.monotonic()}")
    return not Heartbeat.objects.get(process="clock").detail["deaf"]


def test_a_restart_of_postgresql_is_answered_503_and_recovered_from(job: Job) -> None:
    with Load(job):
        goes_on(job)
        job.live.postgres.stop()
        answer = job.post(order("refused"), timeout=10)
        assert answer.status_code == 503, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) > 0
        time.sleep(2)
        job.live.postgres.start()
        goes_on(job, seconds=30)

        with psycopg.connect(job.live.postgres.url_of("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        goes_on(job, seconds=30)

        job.live.postgres.kill()  # a crash: it comes back from its log
        time.sleep(1)
        job.live.postgres.start()
        goes_on(job, seconds=30)
    assert job.refusals[503] > 0
    job.wait_settled(45)
    assert job.check() <= 200
    assert all(child.poll() is None for child in job.live.children.values())
