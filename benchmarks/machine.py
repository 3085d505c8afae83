"""How fast the machine is, so that figures of two runs can be held against each other."""

from __future__ import annotations

import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final, Self

ROUNDS = 5
USUAL: Final = 18.0  # ms of CPU that the fixed piece takes on the usual machine, with every core busy
EVERY: Final = 4.0  # seconds from one piece to the next


class Speed:
    """How long the fixed piece takes while something else is measured: machines slow down for minutes.

    `with Speed() as speed`: a process of its own does it every few seconds, which takes a fiftieth of one core.
    """

    def __enter__(self) -> Self:
        context = get_context("spawn")
        self._pieces, there = context.Pipe(duplex=False)
        self._process = context.Process(target=_sample, args=(there,), daemon=True)
        self._process.start()
        there.close()  # or nobody would notice the end of that process
        return self

    def __exit__(self, *raised: Any) -> None:
        self._process.kill()

    def lap(self) -> float:
        """The median piece since the last lap, in ms of CPU."""
        pieces: list[float] = [self._pieces.recv()]
        while self._pieces.poll():
            pieces.append(self._pieces.recv())
        return 1000 * median(pieces)


def _sample(there: Connection) -> None:
    with suppress(BrokenPipeError, KeyboardInterrupt):
        while True:
            time.sleep(EVERY)
            # Who has slept is slow at first: a piece may take twice as long then.
            there.send(min(_piece(10) for _ in range(3)))


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
