"""A workflow as a picture: its steps as a graph, in SVG, coloured by the states that a run gave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

from workflows.definition import UNDOES, Definition, Step, needs_of
from workflows.layout import Box, Layout, Point, lay_out

LINE: Final = 18
HEAD: Final = 54  # a box with an id and an action
MARGIN: Final = 8  # around the drawing: room for a loop's second box, and for outlines
BETWEEN: Final = 52  # the steps and those of `on_failure`, with the words that tell which is which
MOST_ID: Final = 25  # letters that fit into a box
MOST_LINE: Final = 31


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of a box: `if`, `for_each`, `undo` or what else a step is told."""

    kind: Literal["if", "for each", "undo", "on error"]
    words: str
    y: int
    state: str = ""  # of the step that undoes this one

    @property
    def shown(self) -> str:
        return _short(f"{self.kind} {self.words}", MOST_LINE - len(self.state))


@dataclass(frozen=True, slots=True)
class Node:
    """A step's box, with what stands in it."""

    step: Step
    box: Box
    state: str
    time: str
    marks: Sequence[Mark]

    @property
    def shown_id(self) -> str:
        return _short(self.step.id, MOST_ID - len(self.time) if self.time else MOST_ID)

    @property
    def shown_action(self) -> str:
        return _short(self.step.action, MOST_LINE - len(self.state))

    @property
    def said(self) -> str:
        """All of it in words."""
        told = [self.step.id, self.step.action, self.state, self.time]
        marks = [f"{mark.kind} {mark.words}{f' ({mark.state})' if mark.state else ''}" for mark in self.marks]
        return ", ".join(filter(None, [*told, *marks]))


def draw(
    definition: Definition, states: Mapping[str, str] | None = None, times: Mapping[str, str] | None = None
) -> SafeString:
    """The workflow's graph as an SVG element, for a page that has carillon.css.

    `states` and `times` (short texts: `12 ms`) are by the steps' ids; a step that undoes `book` is `book.undo`. Each
    box is a link to `#step-<id>`. A box whose step is not in `states` is drawn plain, as all are without any.
    """
    states, times = states or {}, times or {}
    steps, recovery = definition.steps, definition.on_failure
    layout = lay_out(needs_of([(step.id, step.needs) for step in steps]), _heights(steps))
    after = lay_out(needs_of([(step.id, None) for step in recovery]), _heights(recovery))
    width = max(layout.width, after.width)
    parts = [_moved(layout, (width - layout.width) // 2 + MARGIN, MARGIN)]
    middle = layout.height + MARGIN + BETWEEN // 2
    if recovery:
        parts.append(_moved(after, (width - after.width) // 2 + MARGIN, MARGIN + layout.height + BETWEEN))
    bottom = max(box.y + box.height for part in parts for box in part.boxes.values())
    context = {
        "name": definition.name,
        "width": width + 2 * MARGIN,
        "height": bottom + MARGIN,
        "nodes": list(_nodes((*steps, *recovery), parts, states, times)),
        "edges": [
            {"line": _line(points), "head": _head(points[-1]), "done": above in states and below in states}
            for part in parts
            for (above, below), points in part.edges.items()
        ],
        "middle": middle if recovery else None,
        "order": [f"{below} after {above}" for part in parts for above, below in part.edges],
    }
    return mark_safe(render_to_string("facts/graph.html", context))


def _nodes(
    steps: Sequence[Step], parts: Sequence[Layout], states: Mapping[str, str], times: Mapping[str, str]
) -> Iterator[Node]:
    boxes = {id_: box for part in parts for id_, box in part.boxes.items()}
    for step in steps:
        undone = states.get(f"{step.id}{UNDOES}", "")
        marks = [
            Mark(kind, words, HEAD + at * LINE + 4, undone if kind == "undo" else "")
            for at, (kind, words) in enumerate(_marks(step))
        ]
        yield Node(step, boxes[step.id], states.get(step.id, ""), times.get(step.id, ""), marks)


def _marks(step: Step) -> Iterator[tuple[Literal["if", "for each", "undo", "on error"], str]]:
    if step.if_ is not None:
        yield "if", step.if_
    if step.for_each is not None:
        yield "for each", _listed(step.for_each)
    if step.on_error == "continue":
        yield "on error", "continue"
    if step.undo is not None:
        yield "undo", step.undo.action


def _listed(for_each: Any) -> str:
    """What a loop goes over, in a few words.

    >>> _listed("${{ event.data.items }}"), _listed(["a", "b"])
    ('of event.data.items', 'of 2')
    """
    if isinstance(for_each, list):
        return f"of {len(for_each)}"
    return f"of {str(for_each).strip().removeprefix('${{').removesuffix('}}').strip()}"


def _heights(steps: Sequence[Step]) -> dict[str, int]:
    return {step.id: HEAD + LINE * len(list(_marks(step))) for step in steps}


def _moved(layout: Layout, right: int, down: int) -> Layout:
    boxes = {id_: Box(box.x + right, box.y + down, box.width, box.height) for id_, box in layout.boxes.items()}
    edges = {edge: [Point(x + right, y + down) for x, y in points] for edge, points in layout.edges.items()}
    return Layout(boxes, edges, layout.width, layout.height)


def _line(points: Sequence[Point]) -> str:
    """The edge in SVG: straight through layers, curved where it falls from one to the next.

    >>> _line([Point(10, 0), Point(10, 5), Point(30, 25)])
    'M10 0 L10 5 C10 15 30 15 30 25'
    """
    parts = [f"M{points[0].x} {points[0].y}"]
    for at, (start, end) in enumerate(pairwise(points)):
        if at % 2:
            half = (start.y + end.y) // 2
            parts.append(f"C{start.x} {half} {end.x} {half} {end.x} {end.y}")
        else:
            parts.append(f"L{end.x} {end.y}")
    return " ".join(parts)


def _head(end: Point) -> str:
    """The arrow's head."""
    return f"M{end.x - 4} {end.y - 8} L{end.x} {end.y} L{end.x + 4} {end.y - 8} z"


def _short(text: str, most: int) -> str:
    """The text in one line of at most so many letters.

    >>> _short("a  condition that is long", 12)
    'a condition…'
    """
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"
