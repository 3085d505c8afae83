"""What a graph of ten steps costs."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench
from benchmarks.findings import PROCESSES, Findings, cpu_cells
from benchmarks.load import order


async def measure(bench: Bench) -> Findings:
    """A graph of ten steps with two branches and a join, beside the two steps of the reference job."""
    found = Findings(["", "end to end/s", "CPU s per 1,000", *PROCESSES])
    n, times = bench.sizes.events, bench.sizes.repeats
    async with bench.carillon("graph") as load:
        for title, make in (("two steps", order), ("ten steps", _order)):
            for batch in (1, 100):
                run = await load.median(times, n, batch=batch, make=make)
                how = "single posts" if batch == 1 else f"batches of {batch}"
                found.add(f"{title}, {how}", f"{run.end_to_end:,.0f}", *cpu_cells(run.cpu))
    return found


def _order(number: int, prefix: str) -> dict[str, Any]:
    return order(number, prefix, "order.checked")
