"""Who listens to an event type, who makes its events, and which fields of them are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

from django.db.models import Max

from events import waiting
from events.catalogue import rules
from events.models import FILTER_VARIABLES, EventWait, Schedule, Subscription
from project.expressions import ExpressionError, compile_expression
from workflows.definition import Definition, Step
from workflows.models import Workflow, WorkflowVersion
from workflows.publishing import load
from workflows.reads import reads

Path = tuple[str, ...]

MOST_WAITS: Final = 1000  # that are counted


@dataclass(frozen=True)
class Hearing:
    """A subscription, and by which of its types it hears."""

    subscription: Subscription
    by: str


@dataclass(frozen=True)
class Use:
    """A step that waits for such events, or that makes some."""

    workflow: Workflow
    step: str


@dataclass(frozen=True)
class Reading:
    """A field of an event's data that somebody reads: ("customer", "name"). `page` is what shows who, `key` which."""

    path: Path
    who: str
    where: str
    page: str
    key: int


class Listeners:
    """What is known of an event type's surroundings now. Workflows are looked at in their newest versions."""

    most_waits: ClassVar = MOST_WAITS

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def hearings(self) -> list[Hearing]:
        """The subscriptions that hear of it, disabled ones included."""
        heard = {rule.name: rule for rule in rules().for_type(self._name)}
        rows = Subscription.objects.filter(name__in=heard).select_related("workflow")
        return [Hearing(row, heard[row.name].pattern(self._name) or self._name) for row in rows]

    @cached_property
    def waits(self) -> list[Use]:
        """The steps that wait for one."""
        return self._uses("event.wait")

    @cached_property
    def emits(self) -> list[Use]:
        """The steps that make one."""
        return self._uses("event.emit")

    @cached_property
    def schedules(self) -> list[Schedule]:
        """The schedules that make one."""
        return list(Schedule.objects.filter(type=self._name))

    @cached_property
    def waiting(self) -> int:
        """How many runs wait for one now; MOST_WAITS stands for more."""
        return EventWait.objects.filter(type=self._name)[:MOST_WAITS].count()

    def _uses(self, action: str) -> list[Use]:
        return [
            Use(version.workflow, step.id)
            for version, definition in _newest(containing=action)
            for step in _steps(definition)
            if step.action == action and step.with_.get("type") == self._name
        ]

    def readings(self) -> Iterator[Reading]:
        """Which fields are read by filters, by workflows that a subscription starts, and by those that wait."""
        started = {hearing.subscription.workflow_id for hearing in self.hearings}
        for hearing in self.hearings:
            row = hearing.subscription
            for path in _in_data(_filter_fields(row.filter), "event"):
                yield Reading(path, f"subscription {row.name}", "filter", "events_subscription", row.pk)
        for version, definition in _newest(started):
            yield from _readings(version, [(it.where, it.path) for it in reads(definition)], "event")
        for version, definition in _newest(containing="event.wait"):
            for step in _steps(definition):
                if step.action == "event.wait" and step.with_.get("type") == self._name:
                    where = f"step {step.id}"
                    match = [(where, path) for path in _match_fields(step.with_.get("match"))]
                    yield from _readings(version, match, waiting.INCOMING)
                    output = ("steps", step.id, "output", "event")
                    yield from _readings(version, [(it.where, it.path) for it in reads(definition)], *output)


def _steps(definition: Definition) -> tuple[Step, ...]:
    return (*definition.steps, *definition.on_failure)


def _newest(
    workflows: Iterable[int] | None = None, containing: str = ""
) -> Iterator[tuple[WorkflowVersion, Definition]]:
    """The newest version of each of these workflows (None: of all) with this text in its source."""
    versions = WorkflowVersion.objects.select_related("workflow").defer("source", "definition")
    newest = Workflow.objects.annotate(newest=Max("versions")).values("newest")  # later versions have greater keys
    found = versions.filter(pk__in=newest, source__contains=containing)
    if workflows is not None:
        found = found.filter(workflow__in=workflows)
    for version in found.order_by("workflow__name"):
        yield version, load(version.pk)


def _readings(version: WorkflowVersion, found: Iterable[tuple[str, Path]], *event: str) -> Iterator[Reading]:
    for where, path in found:
        for inside in _in_data([path], *event):
            yield Reading(inside, f"workflow {version.workflow}", where, "workflows_workflow", version.workflow_id)


def _in_data(paths: Iterable[Path], *event: str) -> Iterator[Path]:
    """Of what begins with an event's data, what follows. The data as a whole is nobody's field."""
    prefix = (*event, "data")
    for path in paths:
        if path[: len(prefix)] == prefix and len(path) > len(prefix):
            yield path[len(prefix) :]


def _filter_fields(source: str) -> tuple[Path, ...]:
    try:
        return compile_expression(source, FILTER_VARIABLES).fields if source else ()
    except ExpressionError:  # it says so wherever it is used
        return ()


def _match_fields(source: object) -> tuple[Path, ...]:
    try:
        return waiting.compiled(source).fields if isinstance(source, str) and source else ()
    except ExpressionError:
        return ()
