"""What changed between two texts, line by line, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal

from django.utils.safestring import SafeString

from project.templatetags.facts import coloured_lines

AROUND: Final = 3  # lines that stay the same and are shown before and after a change


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its numbers in the old and the new text; of a gap, how many lines are left out."""

    kind: Literal["same", "added", "removed", "gap"]
    old: int | None = None
    new: int | None = None
    shown: SafeString | str = ""
    left_out: int = 0


def difference(old: str, new: str, language: str) -> list[Line]:
    """The lines that changed, with some around them, and the gaps between; nothing when the texts are the same."""
    before, after = old.splitlines(), new.splitlines()
    shown = coloured_lines(old, language), coloured_lines(new, language)
    groups = SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(AROUND)
    return list(_lines(list(groups), shown, len(before)))


_Opcode = tuple[str, int, int, int, int]


def _lines(groups: list[list[_Opcode]], shown: tuple[list[SafeString], list[SafeString]], end: int) -> Iterator[Line]:
    behind = 0
    for group in groups:
        if group[0][1] > behind:
            yield Line("gap", left_out=group[0][1] - behind)
        for tag, old, old_end, new, new_end in group:
            if tag == "equal":
                for at in range(old_end - old):
                    yield Line("same", old + at + 1, new + at + 1, shown[1][new + at])
                continue
            for at in range(old, old_end):
                yield Line("removed", old=at + 1, shown=shown[0][at])
            for at in range(new, new_end):
                yield Line("added", new=at + 1, shown=shown[1][at])
        behind = group[-1][2]
    if groups and end > behind:
        yield Line("gap", left_out=end - behind)
