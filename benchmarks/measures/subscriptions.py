"""What many subscriptions cost."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench
from benchmarks.databases import KINDS, subscribe
from benchmarks.findings import PROCESSES, Findings, cpu_cells
from benchmarks.load import Make, order

COUNTS = (10, 1_000, 10_000)
BATCH = 100


async def measure(bench: Bench) -> Findings:
    """Subscriptions over 50 types, each with a filter; every event matches one, which does the reference job."""
    found = Findings(["subscriptions", "asked per event", "end to end/s", "CPU s per 1,000", *PROCESSES])
    async with bench.carillon("subscriptions") as load:
        for count in COUNTS:
            subscribe(bench.servers.postgres.url_of(load.system.database), count)
            make = _order(count)
            await load.throughput(min(200, bench.sizes.events), batch=BATCH, make=make)  # they are compiled
            run = await load.median(bench.sizes.repeats, bench.sizes.events, batch=BATCH, make=make)
            asked = max(1, count // KINDS)
            found.add(f"{count:,}", f"{asked:,}", f"{run.end_to_end:,.0f}", *cpu_cells(run.cpu))
            found.figures["subscriptions.ms"] = run.cpu["worker"]  # seconds per 1,000 are milliseconds per one
    found.notes.append(
        f"In batches of {BATCH}. The worker's column is also the milliseconds of an event, its run included."
    )
    return found


def _order(count: int) -> Make:
    def make(number: int, prefix: str) -> dict[str, Any]:
        subscription = number * 7919 % count  # a prime: all of them in turn, neighbours apart
        return order(number, prefix, f"order.kind-{subscription % KINDS}", part=subscription // KINDS)

    return make
