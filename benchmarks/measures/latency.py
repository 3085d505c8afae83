"""How long a notification takes from the POST to the sink."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.findings import Findings, percentile

UNLOADED = 5.0  # events a second


async def measure(bench: Bench) -> Findings:
    """Milliseconds from the POST to the sink: unloaded, and at half of the rate that single posts reach."""
    found = Findings(["", "events a second", "events", "p50 ms", "p99 ms", "longest ms"])
    async with bench.carillon("latency") as load:
        half = (await load.throughput(bench.sizes.events)).end_to_end / 2
        for title, rate in (("unloaded", UNLOADED), ("half load", half)):
            waits = await load.latencies(rate, bench.sizes.seconds)
            p50, p99 = percentile(waits, 50), percentile(waits, 99)
            found.add(title, f"{rate:,.0f}", f"{len(waits):,}", f"{p50:.1f}", f"{p99:.1f}", f"{waits[-1]:.1f}")
            if rate == UNLOADED:
                found.figures |= {"latency.p50": p50, "latency.p99": p99}
    return found
