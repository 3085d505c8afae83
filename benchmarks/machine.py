"""How fast the machine is, so that figures of two runs can be held against each other."""

from __future__ import annotations

import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

ROUNDS = 5


def told(postgres: str) -> str:
    """The machine in a line; `postgres` is the server's version."""
    alone, beside = (1000 * median(_at_once(number)) for number in (1, os.cpu_count() or 1))
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL {postgres}, every commit on disk. "
        f"A fixed piece of Python costs {alone:.0f} ms of CPU alone, and {beside:.0f} ms with every core busy"
    )


def _at_once(processes: int) -> list[float]:
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return list(pool.map(_piece, [10] * processes * ROUNDS))


def _piece(times: int) -> float:
    """CPU seconds of what the engine does most: small dictionaries, text, attribute lookups."""
    began = time.process_time()
    for _ in range(times):
        rows = [{"id": f"order-{number}", "customer": {"name": str(number)}} for number in range(5_000)]
        sum(len(str(row["id"])) for row in rows if "9" in row["customer"])
    return time.process_time() - began
