"""CPU time and memory of processes with all that they started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from benchmarks.systems import Servers, System

Usage = dict[str, float]


def cpu(roots: Mapping[str, int]) -> Usage:
    """CPU seconds so far by name, of children too, also of those that have ended."""
    return {name: sum(map(_seconds, _family(pid))) for name, pid in roots.items()}


def memory(roots: Mapping[str, int]) -> dict[str, dict[int, int]]:
    """Bytes that each process has for itself, by name and pid: what forked ones share is divided among them.

    Pages of PostgreSQL's buffers are not counted, which every session touches more of as it goes on.
    """
    return {
        name: {process.pid: size for process in _family(pid) if (size := _private(process))}
        for name, pid in roots.items()
    }


def roots(system: System, servers: Servers) -> dict[str, int]:
    """All processes that work for the system. Who sends the load and the sink are not among them."""
    ours = {name: child.pid for name, child in system.children.items()}
    return {**ours, "PostgreSQL": servers.postgres.pid, "Valkey": servers.valkey.pid}


def per_thousand(before: Usage, after: Usage, n: int) -> Usage:
    """CPU seconds per 1,000 of n events."""
    return {name: (after[name] - before[name]) / n * 1000 for name in after}


def _family(pid: int) -> Iterator[psutil.Process]:
    try:
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _private(process: psutil.Process) -> int:
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended, or it belongs to somebody else
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:")), 0)
