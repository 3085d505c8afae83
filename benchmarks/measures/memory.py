"""Whether memory grows."""

from __future__ import annotations

from benchmarks import usage
from benchmarks.bench import Bench
from benchmarks.findings import Findings

BATCH = 100
MIB = 2**20


async def measure(bench: Bench) -> Findings:
    """Memory that processes have for themselves, by the events since their start, in batches of 100."""
    first, last = bench.sizes.marks
    found = Findings(["", f"MiB at {first:,}", f"MiB at {last:,}", "growth", "the process that grew most"])
    async with bench.carillon("memory") as load:
        roots = usage.roots(load.system, load.servers)
        await load.throughput(first, batch=BATCH)
        before = usage.memory(roots)
        await load.throughput(last - first, batch=BATCH)
        after = usage.memory(roots)
    for name in roots:
        lasting = before[name].keys() & after[name].keys()  # not an autovacuum that is under way
        old, new = (sum(sizes[name][pid] for pid in lasting) for sizes in (before, after))
        grown = _growth(old, new)
        worst = max(_growth(before[name][pid], after[name][pid]) for pid in lasting)
        if name == "PostgreSQL":  # a session that had little to do before grows from 1.5 MiB to the 2 of its likes
            worst = grown
        found.add(name, f"{old / MIB:,.1f}", f"{new / MIB:,.1f}", f"{grown:+.1f} %", f"{worst:+.1f} %")
        found.figures["memory.growth"] = max(worst, found.figures.get("memory.growth", worst))
    return found


def _growth(old: int, new: int) -> float:
    return (new / old - 1) * 100
