"""What a measurement found: a table for people, and figures that are held against targets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROCESSES = ("web", "worker", "performer", "sender", "clock", "PostgreSQL", "Valkey")


@dataclass
class Findings:
    """`columns` and `rows` of the table, `notes` beneath it, and `figures` by the name that targets know them by."""

    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, *cells: str) -> None:
        self.rows.append(cells)

    def text(self) -> str:
        """The table in Markdown, and the notes."""
        return "\n\n".join([table(self.columns, self.rows), *self.notes])


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it is one on a terminal, too.

    >>> print(table(["", "rate"], [["single", "9"]]))
    |        | rate |
    | ------ | ---- |
    | single | 9    |
    """
    widths = [max(3, *map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest of the sorted values that so many per cent of them do not exceed.

    >>> percentile([1, 2, 3, 4], 50), percentile([1, 2, 3, 4], 99)
    (2, 4)
    """
    return ordered[max(0, math.ceil(len(ordered) * part / 100) - 1)]


def cpu_cells(used: Mapping[str, float]) -> list[str]:
    """The sum, then each of PROCESSES; nothing for one that the system does not have."""
    return [f"{sum(used.values()):.2f}", *(f"{used[name]:.2f}" if name in used else "" for name in PROCESSES)]


def write_section(document: Path, name: str, text: str) -> None:
    """Put the text between the document's markers `<!-- bench: name -->` and `<!-- end -->`, and touch nothing else.

    Raises LookupError when it has no such markers, or more than one pair.
    """
    whole = document.read_text()
    section = re.compile(rf"(?<=<!-- bench: {re.escape(name)} -->\n).*?(?=<!-- end -->)", re.DOTALL)
    if len(section.findall(whole)) != 1:
        raise LookupError(f"{document} has not one section <!-- bench: {name} --> … <!-- end -->")
    document.write_text(section.sub(lambda _: f"\n{text}\n\n", whole))
