"""What it costs to consume from each broker."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from functools import partial

import orjson

from benchmarks import usage
from benchmarks.bench import Bench
from benchmarks.databases import row
from benchmarks.findings import Findings
from benchmarks.load import order
from benchmarks.systems import System, wait_for
from project.processes import PROCESSES
from tests.brokers.counterparts import COUNTERPARTS, Absent, Counterpart, Sent, counterpart, stop_all

BATCHES = 4  # times as many events as in a load of single posts
PORTIONS = 6  # times as many as may wait at a broker, at most
COUNT = "SELECT count(*) FROM events_event"


async def measure(bench: Bench) -> Findings:
    """CloudEvents that wait at a broker, consumed by one process in batches of at most 200 and stored, no more."""
    found = Findings(["broker", "events/s", "CPU s per 1,000", "consumer", "PostgreSQL", "broker itself"])
    directory = bench.servers.directory / "brokers"
    directory.mkdir()
    try:
        for adapter in COUNTERPARTS:
            try:
                broker = counterpart(adapter, directory)
            except Absent as error:
                found.notes.append(f"{adapter}: not measured, {error}.")
                continue
            runs = [
                await asyncio.to_thread(_consume, bench, broker, f"{adapter}-{turn}")
                for turn in range(bench.sizes.repeats)
            ]
            bench.say(f"  {adapter}: " + ", ".join(f"{run[1]['consumer']:.2f}" for run in runs))
            rate, used = sorted(runs, key=lambda run: run[1]["consumer"])[len(runs) // 2]
            cells = [
                f"{used[name]:.2f}" if name in used else "not told" for name in ("consumer", "PostgreSQL", "broker")
            ]
            found.add(adapter, f"{rate:,.0f}", f"{sum(used.values()):.2f}", *cells)
            found.figures["consume.cpu"] = max(used["consumer"], found.figures.get("consume.cpu", 0.0))
    finally:
        stop_all()
    found.notes.append(
        "The events wait until the consumer has begun, whose start is not counted. No worker runs. RabbitMQ is the "
        "machine's own, its CPU time unknown; Kafka is Tansu. SQS is Moto, which gets slow when many messages wait: "
        "it is given 400, and more as these are taken."
    )
    return found


def _consume(bench: Bench, broker: Counterpart, name: str) -> tuple[float, usage.Usage]:
    """Events a second, and CPU seconds per 1,000, from the first batch that is stored to the last."""
    place = f"bench-{name}-{uuid.uuid4().hex[:6]}"
    messages = _messages(place, min(bench.sizes.events * BATCHES, broker.ahead * PORTIONS))
    system = bench.servers.carillon(f"consume_{name.replace('-', '_')}")
    url = bench.servers.postgres.url_of(system.database)
    broker.prepare(place)
    broker.publish(place, messages[: broker.ahead])
    _apply(system, broker, place)
    system = _only_consuming(system)
    try:
        system.start("consumer")
        wait_for(partial(_stored, url, 1), f"the first event of {broker.adapter}")
        roots = {"consumer": system.children["consumer"].pid, "PostgreSQL": bench.servers.postgres.pid}
        if broker.pid:
            roots["broker"] = broker.pid
        first, before, started = row(url, COUNT)[0], usage.cpu(roots), time.monotonic()
        for at in range(broker.ahead, len(messages), portion := max(1, broker.ahead // 2)):
            wait_for(partial(_stored, url, at - portion), f"half of what waits at {broker.adapter}")
            broker.publish(place, messages[at : at + portion])
        wait_for(partial(_stored, url, len(messages)), f"the last event of {broker.adapter}", 600)
        rest, took = max(1, len(messages) - first), time.monotonic() - started
        return rest / took, usage.per_thousand(before, usage.cpu(roots), rest)
    finally:
        system.stop()
        broker.remove(place)


def _stored(url: str, number: int) -> bool:
    return bool(row(url, COUNT)[0] >= number)


def _only_consuming(system: System) -> System:
    """The system with one process, which stores what it consumes."""
    system.commands = {"consumer": PROCESSES["consumer"].argv()}
    return system


def _apply(system: System, broker: Counterpart, place: str) -> None:
    source = {"kind": "Source", "name": place, "adapter": broker.adapter, "settings": broker.settings(place)}
    file = system.directory / f"{place}.yaml"
    file.write_bytes(orjson.dumps(source))  # JSON is YAML
    system.manage("apply", str(file))


def _messages(prefix: str, n: int) -> Sequence[Sent]:
    return [
        Sent(
            orjson.dumps({"specversion": "1.0", "source": "/elsewhere", **order(number, prefix)}),
            content_type="application/cloudevents+json",
            key=str(number % 50),
        )
        for number in range(n)
    ]
