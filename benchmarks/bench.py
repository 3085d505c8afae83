"""What every measurement is given: the servers, the sizes, and systems to measure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.load import Load, load
from benchmarks.systems import Servers, System, running

WARM_UP = 200  # events


@dataclass(frozen=True)
class Sizes:
    """How much of everything. `kept` are events in the long history; `marks` those at which memory is compared."""

    events: int = 3000
    repeats: int = 3
    seconds: float = 60
    kept: int = 2_000_000
    marks: tuple[int, int] = (50_000, 200_000)

    @property
    def told(self) -> str:
        return f"{self.events:,} events a load (batches: up to four times as many), the median of {self.repeats}"


FULL = Sizes()
QUICK = Sizes(events=400, repeats=1, seconds=5, kept=10_000, marks=(1_000, 4_000))


@dataclass(frozen=True)
class Bench:
    servers: Servers
    sizes: Sizes

    @asynccontextmanager
    async def carillon(self, name: str) -> AsyncIterator[Load]:
        """A Carillon on a fresh database, running and warm."""
        async with self.warm(self.servers.carillon(name)) as producers:
            yield producers

    @asynccontextmanager
    async def warm(self, system: System) -> AsyncIterator[Load]:
        """The system, running and warm, with the load that is put on it."""
        with running(system):
            async with load(system, self.servers) as producers:
                await producers.throughput(min(WARM_UP, self.sizes.events))
                yield producers

    def say(self, text: str) -> None:
        print(text, flush=True)
