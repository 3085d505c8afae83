"""What many runs of one event cost."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench
from benchmarks.databases import hear
from benchmarks.findings import PROCESSES, Findings, cpu_cells
from benchmarks.load import order

COUNTS = (1, 50)


async def measure(bench: Bench) -> Findings:
    """Events that start 1 and 50 runs of the reference job each; CPU seconds per 1,000 runs."""
    found = Findings(["runs per event", "events/s", "runs/s", "CPU s per 1,000 runs", *PROCESSES])
    async with bench.carillon("runs") as load:
        for count in COUNTS:
            hear(bench.servers.postgres.url_of(load.system.database), count)
            n = max(20, bench.sizes.events // count)
            await load.throughput(20, make=_order, notifications=count)
            run = await load.median(bench.sizes.repeats, n, make=_order, notifications=count)
            each = {name: seconds / count for name, seconds in run.cpu.items()}
            found.add(f"{count}", f"{run.end_to_end:,.0f}", f"{run.end_to_end * count:,.0f}", *cpu_cells(each))
    return found


def _order(number: int, prefix: str) -> dict[str, Any]:
    return order(number, prefix, "order.fanned")
