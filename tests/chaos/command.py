"""The command behind `make chaos`, once Django is set up."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from project.children import last_lines
from tests import servers
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.storm import Report, Storm, configured, deck
from tests.flow.job import Load
from tests.live import living, migrated_template
from tests.sinks import HttpSink, SmtpSink


def run(*, seconds: float, seed: int, only: Sequence[str] | None) -> int:
    """Drive a storm and print what came of it; 0 when every promise was kept, else 1."""
    faults = _chosen(only)
    print(f"Faults for {seconds:.0f} s, --seed {seed}", flush=True)
    migrated_template(servers.postgres)
    hooks, mails = HttpSink().start(), SmtpSink().start()
    with living("chaos", servers.postgres) as live:
        job = configured(live, hooks, mails)
        with Load(job) as load:
            storm = Storm(job, load, seed=seed, tell=_say)
            storm.run(deck(faults, storm.random), seconds=seconds)
        report = storm.end()
        if not report.well:
            for name in live.children:
                print(f"--- the end of {name}.log\n{last_lines(live.log(name), 15)}", file=sys.stderr)
    hooks.stop()
    mails.stop()
    _print(report)
    return 0 if report.well else 1


def _chosen(only: Sequence[str] | None) -> list[Fault]:
    if only is None:
        return list(FAULTS.values())
    faults = [fault for fault in FAULTS.values() if any(part.lower() in fault.name.lower() for part in only)]
    if not faults:
        raise SystemExit(f"--only {' '.join(only)}: no such fault; known are: {'; '.join(FAULTS)}")
    return faults


def _print(report: Report) -> None:
    _say(f"\n{report.table()}\n")
    if report.well:
        _say(f"{len(report.accepted):,} events were accepted, and everything that was promised was kept.")
    else:
        _say(f"BROKEN ({len(report.wrongs)} effects, {len(report.broken)} other promises):\n{report.told()}")


def _say(text: str) -> None:
    print(text, flush=True)
