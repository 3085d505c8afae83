"""The bare limits: what the parts can do on this machine when they do nothing else."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable

import aiohttp
import orjson
import psycopg
import redis

from benchmarks import usage
from benchmarks.bench import Bench
from benchmarks.findings import Findings
from benchmarks.noop import app, nothing
from benchmarks.systems import Servers, wait_for
from project.children import spawn, stop

SESSIONS = 16
BATCH = 100
AT_ONCE = 64
ENDED = 0.2  # seconds in which PostgreSQL takes notice of a session that ended, and inherits its CPU time
BODY = {"type": "order.paid", "data": {"order_id": "", "amount": 120.5, "customer": "customer 1"}}


async def measure(bench: Bench) -> Findings:
    """The bare limits of the parts, each alone on the same servers."""
    found = Findings(["", "a second", "CPU s per 1,000", "of"])
    n = bench.sizes.events
    servers = bench.servers
    url = servers.postgres.create_database("limits")
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TABLE limit_event (uid uuid PRIMARY KEY, id text UNIQUE, data jsonb, due_at timestamptz)"
        )
    await asyncio.to_thread(_tasks, found, servers, n * 2)
    for title, many, work in (
        ("PostgreSQL, one row a commit, one session", n, lambda: _insert(url, n)),
        (f"PostgreSQL, one row a commit, {SESSIONS} sessions", n, lambda: _insert_together(url, n)),
        (f"PostgreSQL, {BATCH} rows a commit, one session", n * 4, lambda: _insert(url, n * 4, BATCH)),
    ):
        await asyncio.to_thread(_timed, found, title, many, {"PostgreSQL": servers.postgres.pid}, work)
    await _sink(found, servers, n * 2)
    return found


def _timed(found: Findings, title: str, n: int, roots: dict[str, int], work: Callable[[], None]) -> None:
    before, started = usage.cpu(roots), time.monotonic()
    work()
    took = time.monotonic() - started
    time.sleep(ENDED)
    _tell(found, title, n, took, usage.per_thousand(before, usage.cpu(roots), n))


def _tell(found: Findings, title: str, n: int, took: float, used: usage.Usage) -> None:
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in used.items())
    found.add(title, f"{n / took:,.0f}", f"{sum(used.values()):.2f}", parts)


def _tasks(found: Findings, servers: Servers, n: int) -> None:
    """Tasks that do nothing, published one by one, then done by two prefork processes."""
    broker = f"{servers.valkey.url.removesuffix('/0')}/2"
    here = {"publisher": os.getpid(), "Valkey": servers.valkey.pid}
    _timed(found, "Celery, publishing a task that does nothing", n, here, lambda: _publish(broker, n))
    words = [
        "-m",
        "celery",
        "-A",
        "benchmarks.noop",
        "worker",
        "-c",
        "2",
        "-l",
        "WARNING",
        "--without-gossip",
        "--without-mingle",
    ]
    with redis.Redis.from_url(broker) as client:
        waiting = client.llen("celery")
        assert waiting == n, f"{waiting} of {n} tasks wait"
        worker = spawn(
            [sys.executable, *words],
            log=servers.directory / "noop.log",
            env={**os.environ, "CELERY_BROKER_URL": broker},
        )
        try:
            # Its start is not counted: the clock begins when it has begun.
            wait_for(lambda: client.llen("celery") < n, "the worker")
            roots = {"worker": worker.pid, "Valkey": servers.valkey.pid}
            first = max(1, int(client.llen("celery")))  # few tasks may be done before anybody looks
            _timed(
                found,
                "Celery, doing it, two processes",
                first,
                roots,
                lambda: wait_for(
                    lambda: not client.llen("celery") and not client.hlen("unacked"), "the last task", 600
                ),
            )
        finally:
            stop(worker, patience=5)


def _publish(broker: str, n: int) -> None:
    # By a connection of its own: whoever has CELERY_BROKER_URL set would publish there.
    with app.connection_for_write(broker) as connection, app.amqp.Producer(connection) as producer:
        for _ in range(n):
            nothing.apply_async(producer=producer)


def _insert(url: str, n: int, batch: int = 1) -> None:
    statement = """
        INSERT INTO limit_event SELECT uuidv7(), each->>'id', each, now()
        FROM jsonb_array_elements(%s::jsonb) AS each
    """
    me = threading.get_ident()
    with psycopg.connect(url, autocommit=True) as connection:
        for start in range(0, n, batch):
            rows = [{**BODY, "id": f"{me}-{batch}-{number}"} for number in range(start, min(start + batch, n))]
            connection.execute(statement, [orjson.dumps(rows).decode()], prepare=True)


def _insert_together(url: str, n: int) -> None:
    threads = [threading.Thread(target=_insert, args=(url, n // SESSIONS)) for _ in range(SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def _sink(found: Findings, servers: Servers, n: int) -> None:
    """Posts by as many clients as the sender would have: its limit, and that of the load generator."""
    roots = {"sink": servers.sink_pid}
    before, started = usage.cpu(roots), time.monotonic()
    numbers = iter(range(n))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def post() -> None:
            for number in numbers:
                body = {**BODY, "data": {**BODY["data"], "order_id": f"limit-{number}"}}  # type: ignore[dict-item]
                async with session.post(servers.sink_url, json=body) as answer:
                    await answer.read()

        await asyncio.gather(*(post() for _ in range(AT_ONCE)))
    took = time.monotonic() - started
    _tell(found, "the sink alone, posts from one process", n, took, usage.per_thousand(before, usage.cpu(roots), n))
