"""What the figures should be on two cores, and whether they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.findings import table
from benchmarks.machine import USUAL

# What the hand-rolled chain took on the usual machine: CPU seconds per 1,000 events, and ms from POST to sink.
CHAIN: Final = {"chain.cpu": 13.8, "chain.p50": 17.2}


@dataclass(frozen=True)
class Target:
    """A bound for one figure, `at_most` or `at_least`, at the usual speed of a machine.

    `scales` says what a machine twice as slow does to the figure: 1 doubles it, -1 halves it, 0 leaves it. `chain` is
    the figure of the hand-rolled chain that is of the same kind, and tells how slow the machine was, too.
    """

    says: str
    figure: str
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""
    scales: int = 1
    chain: str = "chain.cpu"

    def at_usual_speed(self, value: float, slower: float) -> float:
        """What the figure would be there. `slower`: by how much the machine was.

        >>> Target("", "").at_usual_speed(3.0, 2.0), Target("", "", scales=-1).at_usual_speed(450, 2.0)
        (1.5, 900.0)
        """
        return value / slower**self.scales

    def slower(self, piece: float, figures: Mapping[str, float]) -> float:
        """The lesser of what the fixed piece says, in ms, and the chain: what is not Python slows down less.

        >>> Target("", "").slower(45.0, {"chain.cpu": 27.6}), Target("", "").slower(45.0, {})
        (2.0, 2.5)
        """
        return min(piece / USUAL, figures.get(self.chain, float("inf")) / CHAIN[self.chain])

    def shown(self, value: float) -> str:
        return f"{value:,.2f}{self.unit}" if value < 100 else f"{value:,.0f}{self.unit}"

    def verdict(self, value: float | None) -> str:
        """`met`, `not met`, or `not measured`.

        >>> Target("", "", at_most=1.8).verdict(1.8), Target("", "", at_least=5).verdict(4.9)
        ('met', 'not met')
        """
        if value is None:
            return "not measured"
        well = (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)
        return "met" if well else "not met"

    @property
    def bound(self) -> str:
        return (
            f"at most {self.at_most:,g}{self.unit}"
            if self.at_least is None
            else f"at least {self.at_least:,g}{self.unit}"
        )


TARGETS = (
    Target("CPU seconds per 1,000 events, single posts, everything recorded", "single.cpu", at_most=1.8),
    Target("the same in batches of 100", "batches.cpu", at_most=0.7),
    Target("ratio to the hand-rolled chain, same run, single posts", "ratio", at_least=5, scales=0),
    Target("end to end, single posts, events a second", "single.rate", at_least=900, scales=-1),
    Target("end to end, batches of 100, events a second", "batches.rate", at_least=3000, scales=-1),
    Target("p50 from POST to sink at 5 events a second", "latency.p50", at_most=10, unit=" ms", chain="chain.p50"),
    Target("p99 from POST to sink at 5 events a second", "latency.p99", at_most=30, unit=" ms", chain="chain.p50"),
    Target(
        "healthy deliveries' p99 while 5 % of the traffic hangs for 30 s each",
        "hanging.p99",
        at_most=50,
        unit=" ms",
        chain="chain.p50",
    ),
    Target("CPU with the long history against an empty database", "history.ratio", at_most=1.15, scales=0),
    Target("10,000 subscriptions over 50 types: the worker's CPU per event", "subscriptions.ms", at_most=3, unit=" ms"),
    Target(
        "the admin's slowest page with the long history, the median of its answers", "admin.ms", at_most=300, unit=" ms"
    ),
    Target("CPU seconds of a consumer per 1,000 events, the dearest broker", "consume.cpu", at_most=0.3),
    Target("growth of any process's memory between the marks", "memory.growth", at_most=5, unit=" %", scales=0),
)


def verdicts(figures: Mapping[str, float], pieces: Mapping[str, float]) -> str:
    """Every target with its figure, as a Markdown table. `pieces`: how long the fixed piece took meanwhile, in ms."""
    rows = []
    for target in TARGETS:
        if target.figure not in figures:
            rows.append([target.says, target.bound, "", "", "", target.verdict(None)])
            continue
        value, slower = figures[target.figure], target.slower(pieces[target.figure], figures)
        usual = target.at_usual_speed(value, slower)
        rows.append(
            [
                target.says,
                target.bound,
                target.shown(value),
                f"{slower:.2f}" if target.scales else "",
                target.shown(usual),
                target.verdict(usual),
            ]
        )
    columns = ["figure on two cores", "target", "measured", "the machine was slower by", "at the usual speed", ""]
    return table(columns, rows)
