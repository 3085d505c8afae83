"""A model of the workflow language, as docs/reference/workflows.md tells it: what becomes of a run, and when.

It knows nothing of rows, batches and transactions. Steps take time: `fates` says for each step when it begins and ends
and with what state, and `Course` when the run succeeds or fails. What is under way when a run fails depends on the
moment, and things that happen at the same moment have no order: `allowed` says what may have become of a step.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Event: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[str, int | None]

FOREVER = float("inf")
PAUSE = 600  # seconds between attempts; all that takes time takes a multiple of it
SAME_MOMENT = 90  # seconds that a test may be late
ABSENT = "absent"


@dataclass(frozen=True)
class Step:
    """A step as the model knows it."""

    id: str
    kind: Literal["do", "delay", "approval", "child"] = "do"
    needs: tuple[str, ...] | None = None
    loop: bool = False
    parallel: int | None = None
    condition: Literal["", "once", "each"] = ""
    on_error: Literal["fail", "continue"] = "fail"
    attempts: int = 1
    timeout: int | None = None
    lasts: int = PAUSE  # a delay, or how long an approval waits
    undo: bool = False
    undo_attempts: int = 1
    child: Flow | None = None

    def written(self) -> dict[str, Any]:
        """The step as a user writes it. What it does for a run stands in the event: under `s` a cell for each step."""
        cell = "item" if self.loop else f"event.s.{self.id}"
        step: dict[str, Any] = {"id": self.id, **self._action(cell)}
        if self.needs is not None:
            step["needs"] = list(self.needs)
        if self.loop:
            step["for_each"] = f"${{{{ event.s.{self.id} }}}}"
        if self.parallel is not None:
            step["parallel"] = self.parallel
        if self.condition:
            step["if"] = "item.go" if self.condition == "each" and self.loop else f"event.g.{self.id}"
        if self.on_error != "fail":
            step["on_error"] = self.on_error
        if self.attempts > 1:
            step["retry"] = _retry(self.attempts)
        if self.timeout is not None:
            step["timeout"] = f"{self.timeout}s"
        if self.undo:
            step["undo"] = {"action": "model.do", "with": {"b": f"${{{{ {cell}.u }}}}"}}
            if self.undo_attempts > 1:
                step["undo"]["retry"] = _retry(self.undo_attempts)
        return step

    def _action(self, cell: str) -> dict[str, Any]:
        match self.kind:
            case "do":
                return {"action": "model.do", "with": {"b": f"${{{{ {cell}.b }}}}"}}
            case "delay":
                return {"action": "delay", "with": {"for": f"{self.lasts}s"}}
            case "approval":
                return {"action": "approval", "with": {"timeout": f"{self.lasts}s"}}
            case "child":
                assert self.child is not None
                given = {"workflow": self.child.name, "input": f"${{{{ {cell}.input }}}}"}
                return {"action": "workflow.run", "with": given}


def _retry(attempts: int) -> dict[str, Any]:
    return {"attempts": attempts, "delay": f"{PAUSE}s", "factor": 1}


@dataclass(frozen=True)
class Flow:
    """A workflow as the model knows it."""

    name: str
    steps: tuple[Step, ...]
    on_failure: int = 0
    timeout: int | None = None

    def written(self) -> dict[str, Any]:
        flow: dict[str, Any] = {"name": self.name, "steps": [step.written() for step in self.steps]}
        if self.on_failure:
            flow["on_failure"] = [Step(f"f{n}").written() for n in range(self.on_failure)]
        if self.timeout is not None:
            flow["timeout"] = f"{self.timeout}s"
        return flow

    def step(self, id_: str) -> Step:
        return next(step for step in self.steps if step.id == id_)

    def needs(self, id_: str) -> tuple[str, ...]:
        """In a graph what the step names; otherwise the step written before it."""
        if any(step.needs is not None for step in self.steps):
            return self.step(id_).needs or ()
        ids = [step.id for step in self.steps]
        return tuple(ids[: ids.index(id_)][-1:])

    def before(self, id_: str) -> set[str]:
        """All that must have ended before the step begins."""
        near = self.needs(id_)
        return set(near).union(*(self.before(need) for need in near))


@dataclass
class Fate:
    """What becomes of a step, or of an item, if nothing breaks the run off."""

    state: str
    start: float
    end: float
    attempts: int | None = None
    items: dict[int, Fate] = field(default_factory=dict)  # of a loop that is not skipped
    ahead: bool = False  # it was done in an earlier round
    unsure: bool = False  # too close to the end of a time to say

    def after(self, time: float) -> Fate:
        items = {at: item.after(time) for at, item in self.items.items()}
        start, end = self.start + time, self.end + time
        return Fate(self.state, start, end, self.attempts, items, self.ahead, self.unsure)


@dataclass
class Course:
    """What becomes of a run: until when it goes well, and what the steps do till then."""

    fates: dict[str, Fate]
    fails_at: float  # FOREVER: it succeeds
    end: float
    unsure: bool

    @property
    def state(self) -> str:
        return "succeeded" if self.fails_at == FOREVER else "failed"


def course(flow: Flow, event: Event, *, round_: int = 0, done: Mapping[Place, str] | None = None) -> Course:
    """What becomes of a run of the flow. `done` is what is not done again after an earlier round, with its state."""
    fates: dict[str, Fate] = {}
    fatal = FOREVER

    def fate(id_: str) -> Fate | None:
        if id_ not in fates:
            needed = [fate(need) for need in flow.needs(id_)]
            if any(one is None or is_fatal(need, one) for need, one in zip(flow.needs(id_), needed, strict=True)):
                return None
            start = max((one.end for one in needed if one), default=0.0)
            fates[id_] = _fate(flow.step(id_), event, round_, done or {}).after(start)
        return fates[id_]

    def is_fatal(id_: str, one: Fate) -> bool:
        return one.state == "failed" and flow.step(id_).on_error == "fail"

    for step in flow.steps:
        one = fate(step.id)
        if one is not None and is_fatal(step.id, one):
            fatal = min(fatal, one.end)
    end = max((one.end for one in fates.values()), default=0.0)
    unsure = any(one.unsure for one in fates.values())
    if flow.timeout is not None:
        moments = [fatal, *(moment for one in fates.values() for moment in _moments(one))]
        unsure |= any(abs(moment - flow.timeout) < SAME_MOMENT for moment in moments)
        if flow.timeout < min(fatal, end):
            fatal = flow.timeout
    return Course(fates, fatal, end if fatal == FOREVER else fatal, unsure)


def _moments(fate: Fate) -> Iterator[float]:
    yield from (fate.start, fate.end)
    for item in fate.items.values():
        yield from _moments(item)


def _fate(step: Step, event: Event, round_: int, done: Mapping[Place, str]) -> Fate:
    """The step's fate if it begins at the time 0."""
    if (step.id, None) in done:
        return Fate(done[step.id, None], 0, 0, ahead=True)
    if step.condition and not (step.condition == "each" and step.loop) and not event["g"][step.id]:
        return Fate("skipped", 0, 0)
    cells = event["s"][step.id]
    if not step.loop:
        return _one(step, cells, round_)
    return _loop(step, cells, round_, {at for id_, at in done if id_ == step.id and at is not None})


def _loop(step: Step, cells: Sequence[dict[str, Any]], round_: int, done: set[int]) -> Fate:
    items = {at: Fate("succeeded", 0, 0, ahead=True) for at in done}
    under_way: list[float] = []  # when the items end that take the places
    now = 0.0
    for at, cell in enumerate(cells):
        if at in done:
            continue
        if step.parallel is not None and len(under_way) >= step.parallel:
            now = max(now, heapq.heappop(under_way))
        items[at] = _one(step, cell, round_).after(now)
        heapq.heappush(under_way, items[at].end)
    failed = [item.end for item in items.values() if item.state == "failed"]
    state = "failed" if failed else "succeeded"
    halts = failed and step.on_error == "fail"
    end = min(failed) if halts else max((item.end for item in items.values()), default=0.0)
    return Fate(state, 0, end, items=items, unsure=any(item.unsure for item in items.values()))


def _one(step: Step, cell: dict[str, Any], round_: int) -> Fate:
    if step.loop and step.condition == "each" and not cell["go"]:
        return Fate("skipped", 0, 0)
    match step.kind:
        case "do":
            return attempts(cell["b"], step.attempts, step.timeout, round_)
        case "delay":
            lasts, state, unsure = float(step.lasts), "succeeded", False
        case "approval":
            lasts, state, unsure = (0.0 if cell["answer"] else float(step.lasts)), "succeeded", False
        case "child":
            assert step.child is not None
            child = course(step.child, cell["input"])
            lasts, state, unsure = child.end, child.state, child.unsure
    if step.timeout is not None:
        unsure |= abs(lasts - step.timeout) < SAME_MOMENT
        if lasts > step.timeout:
            lasts, state = step.timeout, "failed"
    return Fate(state, 0, lasts, attempts=1, unsure=unsure)


def attempts(does: dict[str, Any], most: int, timeout: int | None, round_: int) -> Fate:
    """What becomes of attempts of which some fail."""
    fails = 0 if round_ and does["heals"] else does["fails"]
    time = 0
    for attempt in range(1, most + 1):
        if fails < attempt:
            return Fate("succeeded", 0, time, attempt)
        if does["permanent"] or attempt == most or (timeout is not None and time + PAUSE > timeout):
            return Fate("failed", 0, time, attempt)
        time += PAUSE
    raise AssertionError


def allowed(fate: Fate, broken_off: float) -> set[str]:
    """The states that a step may be left in by a run that goes well until `broken_off`."""
    if fate.ahead:
        return {ABSENT}
    if fate.end < broken_off - SAME_MOMENT:
        return {fate.state}
    states = set()
    if fate.end <= broken_off + SAME_MOMENT:
        states |= {fate.state, "cancelled"}
    if fate.start <= broken_off + SAME_MOMENT:
        states.add("cancelled")
    if fate.start >= broken_off - SAME_MOMENT:
        states.add(ABSENT)
    return states
