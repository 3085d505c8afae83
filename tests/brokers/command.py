"""The command behind `python -m tests.brokers`, once Django is set up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.findings import table, write_section
from project.children import last_lines
from tests import servers
from tests.brokers.counterparts import COUNTERPARTS, Absent, killable, stop_all
from tests.brokers.proof import Proof, prove
from tests.live import living, migrated_template

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
COLUMNS: Final = (
    *("broker", "messages", "kills", "broker away", "stored", "lost", "doubled"),
    *("dead letters", "left", "delivered again", "seconds"),
)


def run(*, messages: int, kills: int, only: Sequence[str] | None, write: bool) -> int:
    """Prove it for each broker that is here, and print what came of it; 0 when every promise was kept, else 1."""
    names = _chosen(only)
    migrated_template(servers.postgres)
    directory = servers.directory / "brokers"
    directory.mkdir()
    proofs: list[Proof] = []
    try:
        for name in names:
            try:
                broker = killable(name, directory)
            except Absent as error:
                _say(f"{name}: {error}")
                continue
            with living(f"proof_{name}", servers.postgres) as live:
                place = f"proof-{name}-{messages}"
                try:
                    proof = prove(live, broker, place, messages=messages, kills=kills)
                    proofs.append(proof)
                    _say(f"{name}: {'well' if proof.well else 'BROKEN'}, {proof.seconds:.0f} s")
                finally:
                    broker.remove(place)
                if not proof.well:
                    for log in live.directory.glob("consumer*.log"):
                        print(f"--- the end of {log.name}\n{last_lines(log, 15)}", file=sys.stderr)
    finally:
        stop_all()
    told = table(COLUMNS, [_row(proof) for proof in proofs])
    _say(f"\n{told}")
    if write:
        write_section(DOCUMENT, "brokers", told)
    return 0 if proofs and all(proof.well for proof in proofs) else 1


def _chosen(only: Sequence[str] | None) -> list[str]:
    if unknown := set(only or ()) - COUNTERPARTS.keys():
        raise SystemExit(f"--only {' '.join(unknown)}: no such broker; known are: {', '.join(COUNTERPARTS)}")
    return [name for name in COUNTERPARTS if only is None or name in only]


def _row(proof: Proof) -> list[str]:
    numbers = (proof.stored, proof.lost, proof.doubled, proof.dead)
    left = "not told" if proof.left is None else f"{proof.left:,}"
    return [
        *(proof.broker, f"{proof.messages:,} + 1", str(proof.kills), proof.outage),
        *(f"{number:,}" for number in numbers),
        *(left, f"{proof.again:,}", f"{proof.seconds:.0f}"),
    ]


def _say(text: str) -> None:
    print(text, flush=True)
