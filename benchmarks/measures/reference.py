"""The reference job, by Carillon and by the chain, in one run on the same servers."""

from __future__ import annotations

import asyncio
import time

from benchmarks.bench import Bench
from benchmarks.databases import row
from benchmarks.findings import PROCESSES, Findings, cpu_cells, percentile
from benchmarks.load import Load, Throughput
from project.children import kill

BATCH = 100
BETWEEN_KILLS = 0.7  # seconds
CHAINS_PATIENCE = 15.0  # seconds; its broker gives back a dead worker's messages an hour later, or never


async def measure(bench: Bench) -> Findings:
    """The reference job: accepted, done, and what that costs in CPU seconds per 1,000 events."""
    n, times = bench.sizes.events, bench.sizes.repeats
    found = Findings(["", "accepted/s", "end to end/s", "CPU s per 1,000", *PROCESSES])
    async with bench.carillon("reference") as ours:
        single = await ours.median(times, n)
        _add(found, "Carillon, single posts", single)
        batches = await ours.median(times, n * 4, batch=BATCH)
        _add(found, f"Carillon, batches of {BATCH}", batches)
        killed = await _kills(ours, n, ("worker", "sender", "web", "worker", "sender", "clock"), silence=60)
        query = "SELECT (SELECT count(*) FROM events_event), (SELECT count(*) FROM orders_paid)"
        events, orders = row(bench.servers.postgres.url_of(ours.system.database), query)
        found.notes += [
            f"Carillon, {killed}",
            f"In Carillon's database afterwards: {events:,} events accepted, {orders:,} distinct rows written.",
        ]
    async with bench.warm(bench.servers.chain()) as theirs:
        chain = await theirs.median(times, n // 2)
        _add(found, "DRF + Celery chain, single posts", chain)
        waits = await theirs.latencies(5, bench.sizes.seconds)
        killed = await _kills(theirs, n // 2, ("worker", "worker"), silence=CHAINS_PATIENCE)
        p50, p99 = percentile(waits, 50), percentile(waits, 99)
        found.notes += [
            f"The chain, {killed}",
            f"The chain, from POST to sink at 5 events a second: p50 {p50:.1f} ms, p99 {p99:.1f} ms.",
        ]
    ratio = chain.cpu_total / single.cpu_total
    found.notes.append(f"One event costs the chain {ratio:.1f} times the CPU that it costs Carillon.")
    found.figures = {
        "single.cpu": single.cpu_total,
        "single.rate": single.end_to_end,
        "batches.cpu": batches.cpu_total,
        "batches.rate": batches.end_to_end,
        "ratio": ratio,
        "chain.cpu": chain.cpu_total,
        "chain.p50": p50,
    }
    return found


def _add(found: Findings, title: str, run: Throughput) -> None:
    found.add(title, f"{run.accepted:,.0f}", f"{run.end_to_end:,.0f}", *cpu_cells(run.cpu))


async def _kills(load: Load, n: int, names: tuple[str, ...], *, silence: float) -> str:
    """Kill -9 process groups, one after the other, while n events come in; what became of the events."""
    await load.forget()
    started = time.monotonic()
    sending = asyncio.create_task(load.send(n))
    for name in names:
        await asyncio.sleep(BETWEEN_KILLS)
        kill(load.system.children[name])
        load.system.start(name)
    accepted = len(await sending)
    came = await load.arrival(accepted, silence=silence)
    took = time.monotonic() - started
    repeats = (await load.report())["total"] - came
    dead = ", ".join(dict.fromkeys(names))
    return (
        f"{len(names)} times `kill -9` ({dead}) while {accepted:,} events came in: {accepted - came} lost, "
        f"{repeats} repeated; {took:.0f} s in all."
    )
