"""What a long history costs."""

from __future__ import annotations

import asyncio
import time

from benchmarks.bench import WARM_UP, Bench
from benchmarks.databases import repeat, row
from benchmarks.findings import PROCESSES, Findings, cpu_cells
from benchmarks.load import Load, middle, order
from benchmarks.systems import wait_for


async def measure(bench: Bench) -> Findings:
    """Single posts with an empty database and, in turn, with a long history, half of which matched and was done."""
    found = Findings(["events before", "end to end/s", "CPU s per 1,000", *PROCESSES])
    kept, events = bench.sizes.kept, bench.sizes.events
    async with bench.carillon("history_empty") as empty, bench.carillon("history_long") as long:
        await fill(bench, long, kept, found)
        for load in (empty, long):
            await load.throughput(min(WARM_UP, events))  # what the filling drove out of the caches
        # In turn: what the machine does at one time or another falls to both.
        turns = [[await load.throughput(events) for load in (empty, long)] for _ in range(bench.sizes.repeats)]
    runs = [middle(each) for each in zip(*turns, strict=True)]
    for before, run in zip((0, kept), runs, strict=True):
        found.add(f"{before:,}", f"{run.end_to_end:,.0f}", *cpu_cells(run.cpu))
    ratio = runs[1].cpu_total / runs[0].cpu_total
    found.figures["history.ratio"] = ratio
    found.notes.append(f"With the history an event costs {ratio:.2f} times as much.")
    return found


async def fill(bench: Bench, load: Load, kept: int, found: Findings) -> None:
    """Have two real events done, one that matches and one that does not, and repeat them."""
    url = bench.servers.postgres.url_of(load.system.database)
    await load.send(2, make=_models)
    pending = (
        "SELECT EXISTS (SELECT FROM events_event WHERE due_at IS NOT NULL) OR EXISTS (SELECT FROM workflows_run"
        " WHERE state <> 'succeeded') OR EXISTS (SELECT FROM notifications_delivery WHERE state <> 'delivered')"
    )
    await asyncio.to_thread(wait_for, lambda: not row(url, pending)[0], "the end of two events")
    started = time.monotonic()
    await asyncio.to_thread(repeat, url, {"model-0": kept // 2, "model-1": kept // 2}, bench.say)
    size, runs = row(
        url, "SELECT pg_size_pretty(pg_database_size(current_database())), (SELECT count(*) FROM workflows_run)"
    )
    found.notes.append(
        f"The history ({kept:,} events, {runs:,} runs with their steps, deliveries and attempts; {size}) was written "
        f"in {time.monotonic() - started:.0f} s."
    )


def _models(number: int, _prefix: str) -> dict[str, object]:
    made = order(number, "model")
    return made if number == 0 else {**made, "data": {**made["data"], "amount": 50.5}}
