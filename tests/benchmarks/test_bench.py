"""The benchmark itself, in sizes that tell nothing of speed: that it runs, and that what it fills in is whole."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench import Bench, Sizes
from benchmarks.databases import row
from benchmarks.findings import Findings
from benchmarks.measures import history
from benchmarks.systems import Servers


@pytest.mark.flow
@pytest.mark.thorough
def test_a_benchmark_prints_its_tables_and_holds_them_against_the_targets() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--events", "20", "--only", "limits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| the sink alone, posts from one process +\| \d", done.stdout)
    assert re.search(r"ratio to the hand-rolled chain.*not measured", done.stdout)


@pytest.mark.flow
def test_a_system_is_measured_and_its_long_history_is_whole(tmp_path: Path) -> None:
    """What is filled in by SQL has to be what the engine would have left: the ledger balances over all of it."""
    with Servers(tmp_path) as servers:
        bench = Bench(servers, Sizes(events=10, repeats=1, kept=400))

        async def fill() -> None:
            async with bench.carillon("filled") as load:
                waits = await load.latencies(10, 0.5)
                assert len(waits) == 5
                assert 0 < waits[0] <= waits[-1] < 30_000
                await history.fill(bench, load, 400, Findings([]))
                load.system.manage("ledger", "--all")  # or it ends with what is wrong

        asyncio.run(fill())
        url = servers.postgres.url_of("filled")
        # 10 to warm up, 5 that were timed, two that were repeated, 400 copies, of which half were matched
        assert row(url, "SELECT count(*), count(DISTINCT uid) FROM events_event") == (417, 417)
        assert row(url, "SELECT count(*), count(DISTINCT origin) FROM workflows_run") == (216, 216)
        assert row(url, "SELECT count(*) FROM workflows_steprun") == (432,)
        assert row(url, "SELECT count(*) FROM notifications_attempt WHERE outcome = 'delivered'") == (216,)
        assert row(
            url, "SELECT count(*) FROM events_event e JOIN workflows_run r ON r.input->>'uid' = e.uid::text"
        ) == (216,)
