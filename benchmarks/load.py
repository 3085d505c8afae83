"""Events sent as producers send them, and when what they cause reaches the sink."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks import usage
from benchmarks.databases import first_errors
from benchmarks.systems import Servers, System
from benchmarks.usage import Usage

CLIENTS = 16
SILENCE = 30.0  # seconds without anything new at the sink, after which nothing more is expected
RECORDED = 0.3  # seconds in which the outcomes of what has reached the sink are written down

Order = dict[str, Any]
Make = Callable[[int, str], Order]


def order(number: int, prefix: str, type_name: str = "order.paid", **more: Any) -> Order:
    """One event. `prefix` tells the loads apart, so that no event is a duplicate."""
    order_id = f"{prefix}-{number}"
    data = {"order_id": order_id, "amount": 120.5 + number % 100, "customer": f"customer {number % 1000}", **more}
    return {"type": type_name, "id": order_id, "data": data}


@dataclass(frozen=True)
class Throughput:
    """What a load cost. Rates are events a second; CPU is seconds per 1,000 events, by process."""

    accepted: float
    end_to_end: float
    cpu: Usage

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


def middle(runs: Sequence[Throughput]) -> Throughput:
    """The one of median cost."""
    return sorted(runs, key=lambda run: run.cpu_total)[len(runs) // 2]


class Load:
    """Producers and the sink of one system: `async with load(system, servers) as producers`."""

    def __init__(self, session: aiohttp.ClientSession, system: System, servers: Servers) -> None:
        self.session = session
        self.system = system
        self.servers = servers

    async def throughput(self, n: int, *, batch: int = 1, make: Make = order, notifications: int = 1) -> Throughput:
        """Send n events as fast as 16 clients can, and wait until each has reached the sink so often."""
        await self.forget()
        roots = usage.roots(self.system, self.servers)
        before, started = usage.cpu(roots), time.monotonic()
        await self.send(n, batch=batch, make=make)
        accepted = time.monotonic() - started
        came = await self.arrival(n * notifications, of="total" if notifications > 1 else "distinct")
        arrived = time.monotonic() - started
        self._check(came, n * notifications)
        await asyncio.sleep(RECORDED)
        return Throughput(n / accepted, n / arrived, usage.per_thousand(before, usage.cpu(roots), n))

    async def median(self, times: int, n: int, **how: Any) -> Throughput:
        """The run of median cost, of so many: other work on the machine spoils single ones."""
        return middle([await self.throughput(n, **how) for _ in range(times)])

    async def latencies(self, rate: float, seconds: float, make: Make = order) -> list[float]:
        """Milliseconds from the POST to the sink, sorted, of events at a steady rate.

        What `make` gives another type than the first event's is sent as well, and not waited for.
        """
        await self.forget()
        prefix, sent = uuid.uuid4().hex[:8], dict[str, float]()
        n = max(1, int(rate * seconds))
        orders = [make(number, prefix) for number in range(n)]
        measured = orders[0]["type"]

        async def one(number: int) -> None:
            await asyncio.sleep(number / rate)
            if orders[number]["type"] == measured:
                sent[orders[number]["id"]] = time.time()
            await self._post_until_accepted(orders[number])

        await asyncio.gather(*map(one, range(n)))
        came = await self.arrival(len(sent))
        self._check(came, len(sent))
        first = (await self.report(times=True))["first"]
        return sorted((first[key] - at) * 1000 for key, at in sent.items())

    async def send(self, n: int, *, batch: int = 1, make: Make = order) -> set[str]:
        """Send n events, each again until it is accepted; their ids."""
        prefix = uuid.uuid4().hex[:8]
        queue = [range(at, min(at + batch, n)) for at in range(0, n, batch)][::-1]
        accepted: set[str] = set()

        async def work() -> None:
            while queue:
                orders = [make(number, prefix) for number in queue.pop()]
                await self._post_until_accepted(orders if batch > 1 else orders[0])
                accepted.update(each["id"] for each in orders)

        await asyncio.gather(*(work() for _ in range(CLIENTS)))
        return accepted

    def _check(self, came: int, wanted: int) -> None:
        """SystemExit when something was lost outside the kills: the figures would be those of another job."""
        if came < wanted:
            url = self.servers.postgres.url_of(self.system.database)
            why = first_errors(url) if self.system.ready_path else ""
            raise SystemExit(f"{self.system.name}: {came} of {wanted} notifications came, then nothing more. {why}")

    async def _post_until_accepted(self, body: Order | Sequence[Order]) -> None:
        while not await self._post(body):  # noqa: ASYNC110  what it waits for is another process
            await asyncio.sleep(0.1)

    async def _post(self, body: Order | Sequence[Order]) -> bool:
        try:
            async with self.session.post(self.system.url, json=body) as answer:
                said = await answer.text()
        except aiohttp.ClientError:
            return False
        if 400 <= answer.status < 500 and answer.status != 429:
            raise SystemExit(f"{self.system.name} answers {answer.status}: {said}")
        return answer.status in (200, 202)

    # --- the sink ---

    async def arrival(self, n: int, *, of: str = "distinct", silence: float = SILENCE) -> int:
        """Wait until the sink has n, or nothing new has come for so many seconds; how many it has."""
        found, since = 0, time.monotonic()
        while found < n and time.monotonic() - since < silence:
            await asyncio.sleep(0.02)
            now = (await self.report())[of]
            if now != found:
                found, since = now, time.monotonic()
        return found

    async def report(self, *, times: bool = False) -> Mapping[str, Any]:
        """What the sink knows; benchmarks/sink.py."""
        url = f"{self.servers.sink_url}report{'?times=1' if times else ''}"
        async with self.session.get(url) as answer:
            told: dict[str, Any] = await answer.json()
            return told

    async def forget(self) -> None:
        async with self.session.delete(f"{self.servers.sink_url}report") as answer:
            await answer.read()


@asynccontextmanager
async def load(system: System, servers: Servers) -> AsyncIterator[Load]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CLIENTS),
        headers={"Authorization": f"Bearer {system.api_key}"},
        timeout=aiohttp.ClientTimeout(60),
    ) as session:
        yield Load(session, system, servers)
