"""The reference job, by Carillon and by a hand-rolled DRF view with a Celery chain, in one run on the same servers.

N events `order.paid` come in; those with an amount above 100 upsert a row and send a signed webhook to a sink; event,
run, both steps, delivery and attempt are recorded. `python -m benchmarks.reference --help` has the sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import psycopg
from cryptography.fernet import Fernet

from project.children import Child, kill, last_lines, spawn, stop
from project.embedded import Postgres, Valkey, free_port
from project.processes import PROCESSES

CLIENTS = 16
ROOT = Path(__file__).parent.parent
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

CONFIGURATION = f"""
kind: Source
name: shop
---
kind: EventType
name: order.paid
schema:
  type: object
  required: [order_id, amount, customer]
  properties: {{order_id: {{type: string}}, amount: {{type: number}}, customer: {{type: string}}}}
---
kind: Channel
name: sink
type: webhook
settings: {{url: "${{SINK_URL}}", secret: "{SECRET}"}}
max_in_flight: 100
---
kind: Template
name: order-paid
subject: Order paid
text: "{{{{ event.data.customer }}}} paid {{{{ event.data.amount }}}}."
---
kind: Workflow
name: order-paid
steps:
  - id: record
    action: database.upsert
    with:
      model: ops.Order
      key: {{order_id: "${{{{ event.data.order_id }}}}"}}
      values: {{amount: "${{{{ event.data.amount }}}}", customer: "${{{{ event.data.customer }}}}"}}
  - id: tell
    action: notify
    with: {{to: ["channel:sink"], template: order-paid}}
---
kind: Subscription
name: paid-orders
types: [order.paid]
filter: event.data.amount > 100.0
workflow: order-paid
"""


@dataclass
class System:
    """A system under test: its processes, and where it takes events."""

    name: str
    directory: Path
    environment: dict[str, str]
    commands: dict[str, list[str]]
    port: int
    api_key: str
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/events"

    def start(self, name: str) -> None:
        log = self.directory / f"{self.name}-{name}.log"
        env = {**os.environ, **self.environment, "CARILLON_PROCESS": name}
        self.children[name] = spawn(self.commands[name], log=log, env=env)

    def stop(self) -> None:
        for child in self.children.values():
            child.send_signal(signal.SIGTERM)
        for child in self.children.values():
            stop(child, patience=10)


class Servers:
    """PostgreSQL, Redis protocol and the sink, shared by both systems."""

    def __init__(self, directory: Path) -> None:
        self.postgres = Postgres(directory / "postgres")
        self.valkey = Valkey(directory / "valkey")
        self.directory = directory
        self.sink_port = free_port()
        self.sink: Child | None = None

    def __enter__(self) -> Servers:
        self.postgres.start()
        self.valkey.start()
        command = [sys.executable, "-m", "benchmarks.sink", "--port", str(self.sink_port)]
        self.sink = spawn(command, log=self.directory / "sink.log", env=os.environ)
        wait_for(lambda: answers(self.sink_port), "the sink")
        return self

    def __exit__(self, *exception: object) -> None:
        if self.sink:
            kill(self.sink)
        self.valkey.stop()
        self.postgres.stop()


def carillon(servers: Servers) -> System:
    """Our own, as `make run` starts it."""
    port, api_key_file = free_port(), servers.directory / "carillon.env"
    url = servers.postgres.create_database("carillon")
    environment = {
        "DATABASE_URL": url,
        "REDIS_URL": servers.valkey.url,
        "DATA_DIR": str(servers.directory),
        "SECRET_KEY": "benchmark",
        "SECRET_KEYS": Fernet.generate_key().decode(),
        "SINK_URL": f"http://127.0.0.1:{servers.sink_port}/",
        "OUTBOUND_ALLOW": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
        "DEBUG": "0",
    }
    configuration = servers.directory / "reference.yaml"
    configuration.write_text(CONFIGURATION)
    bootstrap = ["manage.py", "bootstrap", str(api_key_file), "--apply", str(configuration), "--source", "shop"]
    run([sys.executable, *bootstrap], environment)
    values = {"host": "127.0.0.1", "port": port, "web_processes": 1, "worker_processes": 2, "flower_port": free_port()}
    commands = {name: PROCESSES[name].argv(**values) for name in ("web", "worker", "sender", "clock")}
    environment |= PROCESSES["worker"].environment
    api_key = dict(line.split("=", 1) for line in api_key_file.read_text().splitlines() if "=" in line)[
        "CARILLON_API_KEY"
    ]
    return System("carillon", servers.directory, environment, commands, port, api_key)


def chain(servers: Servers) -> System:
    """The hand-rolled service: same server software, same worker processes."""
    port = free_port()
    environment = {
        "DATABASE_URL": servers.postgres.create_database("chain"),
        "REDIS_URL": f"{servers.valkey.url.removesuffix('/0')}/1",
        "SINK_URL": f"http://127.0.0.1:{servers.sink_port}/",
        "API_KEY": "benchmark",
        "DJANGO_SETTINGS_MODULE": "benchmarks.chain.settings",
    }
    run([sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"], environment)
    python = [sys.executable, "-m"]
    commands = {
        "web": [
            *(*python, "granian", "--interface", "wsgi", "benchmarks.chain.wsgi:application"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--blocking-threads", "16"),
        ],
        "worker": [
            *(*python, "celery", "-A", "benchmarks.chain.celery", "worker", "-c", "2", "-l", "WARNING"),
            *("--without-gossip", "--without-mingle"),
        ],
    }
    return System("chain", servers.directory, environment, commands, port, "benchmark")


def run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} is not ready after {seconds:.0f} s")
        time.sleep(0.05)


def answers(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(system: System) -> Iterator[System]:
    try:
        for name in system.commands:
            system.start(name)
        wait_for(lambda: answers(system.port), f"{system.name}'s web process")
        yield system
    finally:
        system.stop()


# --- measuring -------------------------------------------------------------------------------------------------------


def cpu(system: System, servers: Servers) -> dict[str, float]:
    """CPU seconds used so far, by process, children and grandchildren included, also those that have ended."""
    roots = {name: child.pid for name, child in system.children.items()}
    roots |= {"postgres": servers.postgres.pid, "redis": servers.valkey.pid}
    return {name: _cpu_of(pid) for name, pid in roots.items()}


def _cpu_of(pid: int) -> float:
    total = 0.0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        pass
    return total


@dataclass
class Figures:
    accepted: float = 0.0
    end_to_end: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)  # seconds per 1,000 events

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


async def throughput(system: System, servers: Servers, n: int, batch: int = 1) -> Figures:
    """Send n events as fast as 16 keep-alive clients can, and wait until each has reached the sink."""
    await forget(servers)
    before = cpu(system, servers)
    started = time.monotonic()
    async with client(system) as session:
        await send(session, system, n, batch)
        accepted = time.monotonic() - started
        await arrival(session, servers, n)
        arrived = time.monotonic() - started
    after = cpu(system, servers)
    used = {name: (after[name] - before[name]) / n * 1000 for name in after}
    return Figures(n / accepted, n / arrived, used)


def client(system: System) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CLIENTS),
        headers={"Authorization": f"Bearer {system.api_key}"},
        timeout=aiohttp.ClientTimeout(60),
    )


def order(number: int, prefix: str) -> dict[str, Any]:
    order_id = f"{prefix}-{number}"
    data = {"order_id": order_id, "amount": 120.5 + number % 100, "customer": f"customer {number % 1000}"}
    return {"type": "order.paid", "id": order_id, "data": data}


async def send(session: aiohttp.ClientSession, system: System, n: int, batch: int) -> set[str]:
    """Send n events, again until each is accepted; returns the ids that were."""
    prefix = uuid.uuid4().hex[:8]
    queue = [list(range(at, min(at + batch, n))) for at in range(0, n, batch)][::-1]
    accepted: set[str] = set()

    async def work() -> None:
        while queue:
            numbers = queue.pop()
            orders = [order(number, prefix) for number in numbers]
            while not await post(session, system, orders if batch > 1 else orders[0]):  # noqa: ASYNC110  another process
                await asyncio.sleep(0.1)
            accepted.update(o["id"] for o in orders)

    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    return accepted


async def post(session: aiohttp.ClientSession, system: System, body: Any) -> bool:
    try:
        async with session.post(system.url, json=body) as answer:
            await answer.read()
            return answer.status in (200, 202)
    except aiohttp.ClientError:
        return False


async def forget(servers: Servers) -> None:
    async with aiohttp.ClientSession() as session:
        await session.delete(f"http://127.0.0.1:{servers.sink_port}/report")


async def report(session: aiohttp.ClientSession, servers: Servers, times: bool = False) -> dict[str, Any]:
    async with session.get(f"http://127.0.0.1:{servers.sink_port}/report{'?times=1' if times else ''}") as answer:
        told: dict[str, Any] = await answer.json()
        return told


async def arrival(session: aiohttp.ClientSession, servers: Servers, n: int, patience: float = 60) -> int:
    """Wait until the sink has n distinct orders, or nothing new has come for `patience` seconds; returns how many."""
    distinct, since = 0, time.monotonic()
    while distinct < n and time.monotonic() - since < patience:
        await asyncio.sleep(0.02)
        now = (await report(session, servers))["distinct"]
        if now != distinct:
            distinct, since = now, time.monotonic()
    return distinct


async def latency(system: System, servers: Servers, rate: float, seconds: float) -> tuple[float, float]:
    """p50 and p99 in ms from the POST to the sink, at a steady rate."""
    await forget(servers)
    sent: dict[str, float] = {}
    prefix = uuid.uuid4().hex[:8]
    n = int(rate * seconds)
    async with client(system) as session:

        async def one(number: int) -> None:
            await asyncio.sleep(number / rate)
            body = order(number, prefix)
            sent[body["id"]] = time.time()
            await post(session, system, body)

        await asyncio.gather(*(one(number) for number in range(n)))
        await arrival(session, servers, n)
        first = (await report(session, servers, times=True))["first"]
    took = sorted((first[key] - at) * 1000 for key, at in sent.items() if key in first)
    return statistics.median(took), took[min(len(took) - 1, int(len(took) * 0.99))]


async def kills(
    system: System, servers: Servers, n: int, names: tuple[str, ...], patience: float
) -> tuple[int, int, float]:
    """Kill -9 process groups while n events come in: how many were lost and repeated, and the seconds it all took."""
    await forget(servers)
    started = time.monotonic()
    async with client(system) as session:
        sending = asyncio.create_task(send(session, system, n, 1))
        for name in names:
            await asyncio.sleep(0.7)
            kill(system.children[name])
            system.start(name)
        accepted = await sending
        distinct = await arrival(session, servers, len(accepted), patience)
        took = time.monotonic() - started
        repeats = (await report(session, servers))["repeats"]
    return len(accepted) - distinct, repeats, took


def rows(servers: Servers, database: str, query: str) -> Any:
    with psycopg.connect(servers.postgres.url_of(database)) as connection:
        return connection.execute(query).fetchone()


# --- the table -------------------------------------------------------------------------------------------------------


def show(title: str, figures: Figures) -> None:
    parts = "  ".join(f"{name} {value:.2f}" for name, value in figures.cpu.items())
    print(
        f"{title:<34}{figures.accepted:>12,.0f}{figures.end_to_end:>14,.0f}{figures.cpu_total:>12.2f}   {parts}",
        flush=True,
    )


async def measure(arguments: argparse.Namespace, servers: Servers) -> None:
    print(
        f"{'':<34}{'accepted/s':>12}{'end to end/s':>14}{'CPU s/1000':>12}   CPU seconds per 1,000 events, by process"
    )
    with running(carillon(servers)) as ours:
        await throughput(ours, servers, 200)  # warms up
        single = await throughput(ours, servers, arguments.events)
        show("Carillon, single posts", single)
        show("Carillon, batches of 100", await throughput(ours, servers, arguments.events * 4, batch=100))
        p50, p99 = await latency(ours, servers, 5, arguments.seconds)
        print(f"Carillon, POST to sink at 5 events/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
        lost, repeats, took = await kills(
            ours, servers, arguments.events, ("worker", "sender", "web", "worker", "sender", "clock"), 60
        )
        print(f"Carillon, 6 kill -9 in {arguments.events} events: {lost} lost, {repeats} repeated, {took:.0f} s in all")
        events, orders = rows(
            servers, "carillon", "SELECT (SELECT count(*) FROM events_event), (SELECT count(*) FROM orders_paid)"
        )
        print(f"Carillon, in the database: {events} events accepted, {orders} distinct rows written", flush=True)
    if arguments.only_ours:
        return
    with running(chain(servers)) as theirs:
        await throughput(theirs, servers, 100)
        baseline = await throughput(theirs, servers, arguments.events // 2)
        show("DRF + Celery chain, single posts", baseline)
        p50, p99 = await latency(theirs, servers, 5, arguments.seconds)
        print(f"chain, POST to sink at 5 events/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
        lost, repeats, took = await kills(theirs, servers, arguments.events // 2, ("worker", "worker"), 15)
        print(
            f"chain, 2 kill -9 during {arguments.events // 2} events: {lost} not there after 15 s of silence, "
            f"{repeats} repeated, {took:.0f} s"
        )
    print(
        f"\nOne event costs the chain {baseline.cpu_total / single.cpu_total:.1f} times the CPU that it costs Carillon."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events", type=int, default=3000, help="events in a measurement (batches: four times as many)"
    )
    parser.add_argument("--seconds", type=float, default=20, help="length of the latency measurements")
    parser.add_argument("--only-ours", action="store_true", help="leave the baseline out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as directory, Servers(Path(directory)) as servers:
        try:
            asyncio.run(measure(arguments, servers))
        except BaseException:
            for log in Path(directory).glob("*.log"):
                print(f"--- {log.name}\n{last_lines(log, 15)}", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
