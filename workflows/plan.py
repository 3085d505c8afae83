"""What a run does next. Pure: a definition and what the steps left go in, the steps to do now come out.

`Run.steps` says where a run stands: each step that has begun has an entry with its `state`. A step is ready when all
that it needs is at its end. A run that failed takes back what it did, from the last step to the first, and then does
its `on_failure` steps. Nothing else knows how steps follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Any, Final, TypeAlias

from project.retry import RetryPolicy
from workflows.definition import UNDOES, Definition, Step, needs_of
from workflows.models import StepState

Entries: TypeAlias = Mapping[str, Any]  # Run.steps

ENDED: Final = frozenset({"succeeded", "skipped", "failed", "cancelled"})


@dataclass(frozen=True)
class Node:
    """A step, where it is shown among the others, and the steps that it waits for."""

    step: Step
    position: int
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.step.id


class Plan:
    """The order of a definition's steps."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        needs = needs_of([(step.id, step.needs) for step in definition.steps])
        self.nodes = tuple(Node(step, at, needs[step.id]) for at, step in enumerate(definition.steps))
        by_id = {node.key: node for node in self.nodes}
        self._forwards = tuple(by_id[id_] for id_ in TopologicalSorter(needs).static_order())
        undoing = [node.step.back for node in reversed(self._forwards) if node.step.back]
        last = len(self.nodes)
        recovering = [*undoing, *definition.on_failure]
        self._recovery = tuple(Node(step, last + at) for at, step in enumerate(recovering))
        self._nodes = {node.key: node for node in (*self.nodes, *self._recovery)}

    def node(self, id_: str) -> Node:
        return self._nodes[id_]

    def ready(self, entries: Entries) -> Iterator[Node]:
        """The steps that can be begun, and the loops that have items left to begin."""
        # Steps that have ended, with all before them: in a retried run, early ones may be done again.
        behind: set[str] = set()
        for node in self._forwards:
            if not behind.issuperset(node.needs):
                continue
            entry = entries.get(node.key)
            if has_ended(entry):
                behind.add(node.key)
            elif entry is None or items_to_begin(node.step, entry):
                yield node

    def recovery(self, entries: Entries) -> Node | None:
        """What a failed run does next; None when it has done all it can."""
        for node in self._recovery:
            entry = entries.get(node.key)
            if not has_ended(entry) and self._is_due(node, entries):
                return node
        return None

    def _is_due(self, node: Node, entries: Entries) -> bool:
        if not node.key.endswith(UNDOES):
            return True
        done = entries.get(node.key.removesuffix(UNDOES), {})
        return done.get("state") == StepState.SUCCEEDED or bool(done.get("done"))


def has_ended(entry: Mapping[str, Any] | None) -> bool:
    return entry is not None and entry["state"] in ENDED


def is_under_way(entry: Mapping[str, Any]) -> bool:
    return entry.get("state") not in (None, *ENDED)


def items_to_begin(step: Step, entry: Mapping[str, Any]) -> Sequence[int]:
    """The items of a loop under way that may be begun now, by their places among those it has to do.

    With `parallel` as many as there is room for. None after an item failed for good, unless errors do not matter.
    """
    if "items" not in entry or has_ended(entry) or halted(step, entry):
        return ()
    items = entry["items"]
    left = [index for index in entry["order"] if str(index) not in items]
    if step.parallel is None:
        return left
    return left[: max(0, step.parallel - sum(map(is_under_way, items.values())))]


def items_done(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The items of a loop that succeeded, whether it has ended or was broken off."""
    if "items" in entry:
        return {at: each for at, each in entry["items"].items() if each["state"] == StepState.SUCCEEDED}
    outputs = dict(enumerate(entry.get("output") or ()))
    return {str(at): {"state": "succeeded", "output": outputs.get(at)} for at in entry.get("done", ())}


def order_of(entry: Mapping[str, Any]) -> list[int]:
    """The places of a loop's items."""
    order: list[int] = entry["order"] if "items" in entry else list(range(len(entry["output"])))
    return order


def halted(step: Step, entry: Mapping[str, Any]) -> bool:
    """Whether an item of the loop failed, and with it the step."""
    return step.on_error == "fail" and any(item["state"] == StepState.FAILED for item in entry["items"].values())


def next_attempt(
    step: Step, attempt: int, *, now: datetime, started_at: datetime, retry: RetryPolicy | None = None
) -> datetime | None:
    """When a step that failed for the `attempt`-th time is tried again; None when it is not.

    `retry` is what applies to a step that says nothing. The `timeout` of a step inside bounds all its attempts.
    """
    policy = step.retry or retry
    delay = policy.delay_after(attempt) if policy else None
    if delay is None or (step.timeout and now + delay > started_at + step.timeout):
        return None
    return now + delay
