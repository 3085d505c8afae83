"""What a step can do with events: emit one, and wait for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Self
from uuid import UUID

from django.utils import timezone
from pydantic import AfterValidator

from events import cloudevents, ingest, waiting
from events.catalogue import catalogue
from events.cloudevents import Incoming
from events.models import Event, EventType, EventWait
from events.samples import example_of
from project import bulk
from project.api import Problem
from project.depth import too_deep
from project.durations import Duration, format_duration
from project.expressions import EvaluationError, ExpressionError, is_dynamic
from project.identifiers import OWN_SOURCE, new_uid
from project.names import unknown
from workflows.actions import Action, Call, StepError, Wait, action
from workflows.actions.base import Json, Named, Rehearsal, Turn, longer_than_nothing
from workflows.vocabulary import MOST_NAMES, Names, named

TIMED_OUT: Final = {"outcome": "timed_out"}


def _own(source: str) -> str:
    if source != OWN_SOURCE and not source.startswith(f"{OWN_SOURCE}/"):
        raise ValueError(f'must be {OWN_SOURCE} or begin with {OWN_SOURCE}/, not "{source}"')
    return source


@action("event.emit")
class Emit(Action):
    """Stores an event in the step's own transaction. Output: {"uid", "id", "duplicate"}."""

    type: Annotated[str, Named("event types")]
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
            raise _refused(error) from error
        return [{"uid": str(event.uid), "id": event.id, "duplicate": event.duplicate} for event in stored]

    def rehearse(self, call: Call) -> Rehearsal:
        try:
            event = self._event(call)
            ingest.check([event], source=OWN_SOURCE)
        except Problem as error:
            raise _refused(error) from error
        output = {"uid": str(new_uid()), "id": event.id, "duplicate": False}
        return Rehearsal(f"store an event {self.type}", output, "example")

    def _event(self, call: Call) -> Incoming:
        if told := too_deep(call.depth + 1):
            raise StepError(told, permanent=True)
        given: dict[str, Any] = {"type": self.type, "source": self.source, "data": self.data}
        event = cloudevents.plain({**given, "subject": self.subject, "id": self.id or call.key})
        event.depth = call.depth + 1
        return event


@action("event.wait")
class WaitForEvent(Action):
    """Waits for an event. Output: {"outcome": "received", "event": the event}, or {"outcome": "timed_out"}."""

    type: Annotated[str, Named("event types")]
    match: str = ""
    """An expression over `incoming`, the event that comes: incoming.data.order_id == event.data.order_id"""
    timeout: Annotated[Duration, AfterValidator(longer_than_nothing)]

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        if not is_dynamic(given["type"]):
            yield from type_problems(given["type"])
        if match := given.get("match"):
            yield from (("match", message) for message in _match_problems(match))

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json | Turn]:
        now = timezone.now()
        received = _received(call for _, call in calls)
        rows = [one._wait(call, received, now) for one, call in calls]
        bulk.insert(rows)
        # Somebody looks back when these rows are there for everybody: an event that comes until then is found so, and
        # one that comes later finds its wait.
        return [Wait(until=now, output={"until": (now + one.timeout).isoformat()}) for one, _ in calls]

    def wake(self, call: Call, output: Json) -> Json | Turn:
        wait = EventWait.objects.filter(pk=call.uid).first()
        looking_back = "until" in output
        # When its time is over, what came in time may still wait to be routed.
        event = waiting.look_back(wait, waiting_only=not looking_back) if wait else None
        if event is not None:
            return waiting.received(event)
        return Wait(datetime.fromisoformat(output["until"]), TIMED_OUT) if looking_back else output

    def rehearse(self, call: Call) -> Rehearsal:
        self._wait(call, {}, timezone.now())
        would = f"wait for an event {self.type}, at most {format_duration(self.timeout)}"
        return Rehearsal(would, {"outcome": "received", "event": example_of(self.type)}, "example")

    def _wait(self, call: Call, received: Mapping[str, datetime], now: datetime) -> EventWait:
        if problem := next(type_problems(self.type), None):
            raise StepError(f"type: {problem[1]}", permanent=True)
        origin = _origin(call)
        since = received.get(origin) or _started(call) or now
        try:
            return waiting.new_wait(
                call.uid,
                self.type,
                self.match,
                call.context,
                origin=UUID(origin) if origin in received else None,
                since=since,
            )
        except (EvaluationError, ExpressionError) as error:
            raise StepError(f"match can never be true: {error}", permanent=True) from error


def _refused(problem: Problem) -> StepError:
    told = "; ".join(f"{fault.path}: {fault.message}" for fault in problem.errors) or problem.text
    return StepError(told, permanent=True)


def _origin(call: Call) -> str:
    """The uid of the event that the run works on; empty when it is none."""
    event = call.context.get("event")
    uid = event.get("uid") if isinstance(event, Mapping) else None
    try:
        return str(UUID(uid)) if isinstance(uid, str) else ""
    except ValueError:
        return ""


def _received(calls: Iterable[Call]) -> dict[str, datetime]:
    """When the events were received that these runs work on."""
    uids = {UUID(uid) for call in calls if (uid := _origin(call))}
    rows = Event.objects.filter(pk__in=uids).values_list("pk", "received_at") if uids else ()
    return {str(uid): at for uid, at in rows}


def _started(call: Call) -> datetime | None:
    run = call.context.get("run")
    return datetime.fromisoformat(run["started_at"]) if isinstance(run, Mapping) and "started_at" in run else None


def _match_problems(match: str) -> Iterable[str]:
    if is_dynamic(match):
        yield "write the expression alone, without ${{ }}: incoming.data.order_id == event.data.order_id"
        return
    try:
        fields = waiting.compiled(match).fields
    except ExpressionError as error:
        yield f"{error.message} (at line {error.line}, column {error.column} of {match.strip()!r})"
        return
    if all(field[0] != waiting.INCOMING for field in fields):
        yield f"has to read `{waiting.INCOMING}`, the event that comes: incoming.data.order_id == event.data.order_id"


def type_problems(name: str) -> Iterator[tuple[str, str]]:
    """What is wrong with an event type that a step names."""
    known = catalogue().types
    if name not in known:
        yield "type", unknown("event type", name, sorted(known))
    elif known[name].retired:
        yield "type", f'the event type "{name}" is retired'


@named("event types")
def _types() -> Names:
    known = EventType.objects.filter(retired=False).values_list("name", "description")[:MOST_NAMES]
    return {name: {"about": description} for name, description in known}
