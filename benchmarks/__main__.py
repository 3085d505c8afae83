"""Carillon measured, and beside it a hand-rolled DRF view with a Celery chain, in one run on the same servers."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.bench import FULL, QUICK, Bench, Sizes
from benchmarks.databases import row
from benchmarks.findings import write_section
from benchmarks.machine import Speed, told
from benchmarks.measures import MEASURES
from benchmarks.systems import ROOT, Servers
from benchmarks.targets import verdicts
from project.children import last_lines

DOCUMENT = ROOT / "docs" / "performance.md"


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    sizes = sizes_of(arguments)
    names = chosen(arguments.only)
    write = arguments.write if arguments.write is not None else sizes == FULL
    with tempfile.TemporaryDirectory(prefix="carillon-bench-") as directory, Servers(Path(directory)) as servers:
        try:
            asyncio.run(_measure(Bench(servers, sizes), names, DOCUMENT if write else None))
        except BaseException:
            for log in Path(directory).glob("*.log"):
                print(f"--- {log.name}\n{last_lines(log, 15)}", file=sys.stderr)
            raise


async def _measure(bench: Bench, names: Sequence[str], document: Path | None) -> None:
    figures: dict[str, float] = {}
    pieces: dict[str, float] = {}
    began = time.monotonic()
    machine_told = told(row(bench.servers.postgres.url_of("postgres"), "SHOW server_version")[0])
    with Speed() as speed:
        for name in names:
            started = time.monotonic()
            says = (MEASURES[name].__doc__ or "").strip()
            found = await MEASURES[name](bench)
            piece = speed.lap()
            figures |= found.figures
            pieces |= dict.fromkeys(found.figures, piece)
            seconds = time.monotonic() - started
            took = f"{bench.sizes.told}; {seconds:.0f} s in all; the fixed piece of Python took {piece:.0f} ms."
            bench.say(f"\n== {name}: {says}\n\n{found.text()}\n\n{took}")
            if document:
                write_section(document, name, f"{says} {took}\n\n{found.text()}")
    minutes = (time.monotonic() - began) / 60
    machine = f"{machine_told}; {bench.sizes.told}; {minutes:.0f} minutes in all."
    bench.say(f"\n{machine}\n\n{verdicts(figures, pieces)}")
    if document and len(names) == len(MEASURES):  # else it would tell of two runs as if they were one
        write_section(document, "targets", f"{machine}\n\n{verdicts(figures, pieces)}")


def chosen(only: Iterable[str] | None) -> list[str]:
    """The measurements whose names hold one of these words; all without any. SystemExit when there is none.

    >>> chosen(["graph", "sub"])
    ['subscriptions', 'graph']
    """
    if only is None:
        return list(MEASURES)
    words = list(only)
    for word in words:
        if not any(word in name for name in MEASURES):
            raise SystemExit(f"--only {word}: no such measurement; known are: {', '.join(MEASURES)}")
    return [name for name in MEASURES if any(word in name for word in words)]


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    """The full or the quick sizes, with what was named in their place."""
    named: dict[str, Any] = {name: getattr(arguments, name) for name in ("events", "repeats", "seconds", "kept")}
    if arguments.marks is not None:
        named["marks"] = tuple(arguments.marks)
    given = {name: value for name, value in named.items() if value is not None}
    return replace(QUICK if arguments.quick else FULL, **given)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of these measurements: {', '.join(MEASURES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how well")
    parser.add_argument("--events", type=int, help="events in a load (batches: up to four times as many)")
    parser.add_argument("--repeats", type=int, help="loads of which the median is told")
    parser.add_argument("--seconds", type=float, help="length of a measurement of latency")
    parser.add_argument("--kept", type=int, help="events in the long history")
    parser.add_argument("--marks", type=int, nargs=2, help="events after which memory is compared")
    parser.add_argument(
        "--write",
        action=argparse.BooleanOptionalAction,
        help="write the tables of docs/performance.md; by default with the full sizes only",
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
