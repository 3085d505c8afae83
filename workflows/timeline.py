"""What runs did, as bars along a line of time: work and waits, attempt by attempt. Pure: a story goes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from project.durations import in_short

Json: TypeAlias = Mapping[str, Any]

MOST_ROWS: Final = 200
MOST_MARKS: Final = 6  # on the line of time
THINNEST: Final = 0.4  # per cent: what took no time is to be seen all the same
SHORTEST: Final = timedelta(milliseconds=1)
UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (0.001, "ms"))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: work at something, or a wait."""

    kind: Literal["work", "wait"]
    start: datetime
    end: datetime
    state: str  # it ended in; of what goes on, it is in
    words: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """Something that took its time: a run, a step, a delivery. `href` is where more is told."""

    label: str
    href: str
    depth: int
    state: str
    spans: tuple[Span, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A span on the sheet, in per cent of its width."""

    kind: str
    state: str
    left: float
    width: float
    said: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line on the sheet."""

    line: Line
    bars: tuple[Bar, ...]
    took: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A time on the sheet, counted from its beginning."""

    left: float
    said: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Rows over one line of time. `left_out`: how many more there would be."""

    start: datetime
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...]
    left_out: int


def timeline(lines: Iterable[Line]) -> Timeline | None:
    """The lines over the time that they take together; None when nothing has begun."""
    begun = [line for line in lines if line.spans]
    if not begun:
        return None
    start = min(line.spans[0].start for line in begun)
    end = max(max(line.spans[-1].end for line in begun), start + SHORTEST)
    rows = tuple(_row(line, start, end) for line in begun[:MOST_ROWS])
    return Timeline(start, rows, tuple(_marks(end - start)), len(begun) - len(rows))


def _row(line: Line, start: datetime, end: datetime) -> Row:
    whole = (end - start).total_seconds()
    bars = []
    for span in line.spans:
        left = (span.start - start).total_seconds() / whole * 100
        width = max((span.end - span.start).total_seconds() / whole * 100, THINNEST)
        said = f"{span.words or span.state}: {in_short(span.end - span.start)}"
        bars.append(Bar(span.kind, span.state, round(min(left, 100 - width), 2), round(width, 2), said))
    return Row(line, tuple(bars), in_short(line.spans[-1].end - line.spans[0].start))


def _marks(whole: timedelta) -> Iterator[Mark]:
    """Round times, as many as there is room for.

    >>> [(mark.left, mark.said) for mark in _marks(timedelta(seconds=70))]
    [(0.0, '0'), (28.57, '20 s'), (57.14, '40 s'), (85.71, '60 s')]
    """
    seconds = whole.total_seconds()
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= 2 * size), UNITS[-1])
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    step = next(step for step in steps if seconds < step * size * MOST_MARKS)
    for at in range(0, int(seconds / size) + 1, step):
        yield Mark(round(at * size / seconds * 100, 2), f"{at} {unit}" if at else "0")


# --- what a story says -----------------------------------------------------------------------------------------------


def lines_of(run: Json, now: datetime, *, depth: int = 0) -> Iterator[Line]:
    """The steps of a run as its story tells them, what they sent, and the runs that they started."""
    for step in run["steps"]:
        label = step["id"] if step["item"] is None else f"{step['id']} [{step['item']}]"
        notes = [f"round {step['round'] + 1}"] if step["round"] else []
        notes += [f"{step['attempts']} attempts"] if step["attempts"] > 1 else []
        href = f"#step-{step['uid']}"
        yield Line(label, href, depth, step["state"], tuple(spans_of(step, now)), ", ".join(notes))
        for delivery in step.get("deliveries", ()):
            yield _delivery_line(delivery, now, _time(step["finished_at"]), depth + 1)
        for child in step.get("runs", ()):
            yield run_line(child, now, depth=depth + 1)
            yield from lines_of(child, now, depth=depth + 2)


def run_line(run: Json, now: datetime, *, depth: int = 0) -> Line:
    """A run from its start to its end, or until now."""
    start = _time(run["started_at"]) or now
    state = "queued" if run["queued"] else run["state"]
    span = Span("wait" if run["queued"] else "work", start, _time(run["finished_at"]) or max(start, now), state)
    note = f"v{run['version']}, replay {run['replay']}" if run["replay"] else f"v{run['version']}"
    return Line(run["workflow"], f"#run-{run['uid']}", depth, state, (span,), note)


def spans_of(step: Json, now: datetime) -> Iterator[Span]:
    """What a step went through, in turn: its attempts, and what it waited for between them."""
    if (start := _time(step["started_at"])) is None:
        return
    last = _time(step["finished_at"]) or max(start, now)
    turns: list[Json] = step["turns"]
    ends = [min(_time(turn["at"]) or last, last) for turn in turns] + [last]
    at = until = start  # it waits until then
    for number, end in enumerate(ends):
        turn = turns[number] if number < len(turns) else None
        state = step["state"] if turn is None else "failed" if turn["error"] else "waiting"
        if until > at:
            yield Span("wait", at, min(until, end), state if turn is None and until >= end else "waiting", "waited")
        if until <= at or end > until:
            words = f"attempt {number + 1} failed, {turn['error']}" if turn and turn["error"] else ""
            yield Span("wait" if state == "pending" else "work", max(at, until), end, state, words)
        if turn is not None:
            following = ends[number + 1]
            at, until = end, following if turn["to"] == "waiting" else _time(turn["until"]) or end


def _delivery_line(delivery: Json, now: datetime, since: datetime | None, depth: int) -> Line:
    """A delivery from when it was made: its attempts, and the time between them."""
    spans: list[Span] = []
    at = since
    for attempt in delivery["attempts"]:
        begun = _time(attempt["at"]) or now
        if at is not None and begun > at:
            spans.append(Span("wait", at, begun, "waiting", "waited"))
        at = begun + timedelta(milliseconds=attempt["ms"])
        state = "delivered" if attempt["outcome"] == "delivered" else "failed"
        words = f"attempt {attempt['number']}, {attempt['outcome']}"
        spans.append(Span("work", begun, at, state, words))
    if delivery["state"] == "pending" and at is not None and now > at:
        spans.append(Span("wait", at, now, "pending", "waits"))
    label = f"{delivery['to']} by {delivery['channel']}" if delivery["to"] else delivery["channel"]
    notes = f"{len(delivery['attempts'])} attempts" if len(delivery["attempts"]) > 1 else ""
    return Line(label, f"#delivery-{delivery['uid']}", depth, delivery["state"], tuple(spans), notes)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
