"""What an endpoint that hangs does to the others."""

from __future__ import annotations

from typing import Any

from benchmarks.bench import Bench
from benchmarks.databases import row
from benchmarks.findings import Findings, percentile
from benchmarks.load import order

RATE = 50.0  # events a second
ONE_IN = 20


async def measure(bench: Bench) -> Findings:
    """Milliseconds from the POST to a healthy sink, while another endpoint with 5 % of the events takes 30 s each."""
    found = Findings(["", "events a second", "healthy events", "p50 ms", "p99 ms", "longest ms"])
    async with bench.carillon("hanging") as load:
        for title, make in (("all endpoints well", order), ("one in 20 events hangs", _order)):
            waits = await load.latencies(RATE, bench.sizes.seconds, make)
            p50, p99 = percentile(waits, 50), percentile(waits, 99)
            found.add(title, f"{RATE:,.0f}", f"{len(waits):,}", f"{p50:.1f}", f"{p99:.1f}", f"{waits[-1]:.1f}")
        found.figures["hanging.p99"] = p99
        stuck, leased = row(
            bench.servers.postgres.url_of(load.system.database),
            "SELECT count(*), count(*) FILTER (WHERE leased) FROM notifications_delivery WHERE state = 'pending'",
        )
        found.notes.append(f"At the end {stuck} deliveries were pending, {leased} of them hanging at the endpoint.")
    return found


def _order(number: int, prefix: str) -> dict[str, Any]:
    return order(number, prefix, "order.stuck" if number % ONE_IN == ONE_IN - 1 else "order.paid")
