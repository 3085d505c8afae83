"""What a step can do with events: emit one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator

from events import cloudevents, ingest
from events.catalogue import catalogue
from events.cloudevents import Incoming
from events.models import OWN_SOURCE
from project.api import Problem
from project.expressions import is_dynamic
from project.names import unknown
from workflows.actions import Action, Call, StepError, action
from workflows.actions.base import Json

DEEPEST: Final = 20


def _own(source: str) -> str:
    if source != OWN_SOURCE and not source.startswith(f"{OWN_SOURCE}/"):
        raise ValueError(f'must be {OWN_SOURCE} or begin with {OWN_SOURCE}/, not "{source}"')
    return source


@action("event.emit")
class Emit(Action):
    """Stores an event in the step's own transaction. Output: {"uid", "id", "duplicate"}."""

    type: str
    data: Json = None
    subject: str = ""
    id: str = ""
    source: Annotated[str, AfterValidator(_own)] = OWN_SOURCE

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        if is_dynamic(given["type"]):
            return
        yield from type_problems(given["type"])
        known = catalogue().types.get(given["type"])
        if known and (schema := known.schema("")) and not is_dynamic(given.get("data")):
            for fault in schema.faults(given.get("data"), "data"):
                yield fault.path, fault.message

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        try:
            events = [one._event(call) for one, call in calls]
            stored = ingest.accept(events, source=OWN_SOURCE, batch=len(calls) > 1)
        except Problem as error:
            told = "; ".join(f"{fault.path}: {fault.message}" for fault in error.errors) or error.text
            raise StepError(told, permanent=True) from error
        return [{"uid": str(event.uid), "id": event.id, "duplicate": event.duplicate} for event in stored]

    def _event(self, call: Call) -> Incoming:
        if call.depth >= DEEPEST:
            raise StepError(
                f"the loop guard: {call.depth} events led to this run, each emitted by a run that the one before it "
                f"started, and at {DEEPEST} it ends. Does this workflow emit what its own subscription hears?",
                permanent=True,
            )
        given: dict[str, Any] = {"type": self.type, "source": self.source, "data": self.data}
        event = cloudevents.plain({**given, "subject": self.subject, "id": self.id or call.key})
        event.depth = call.depth + 1
        return event


def type_problems(name: str) -> Iterable[tuple[str, str]]:
    """What is wrong with an event type that a step names."""
    known = catalogue().types
    if name not in known:
        yield "type", unknown("event type", name, sorted(known))
    elif known[name].retired:
        yield "type", f'the event type "{name}" is retired'
