"""The events that people try workflows and templates out with: each type's example, and the latest stored ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from events.models import Event, EventType, Source, Subscription
from events.sources import adapters
from project import samples
from project.identifiers import new_uid
from project.samples import Person, Sample
from workflows.models import WorkflowVersion

Json: TypeAlias = Any

EXAMPLES: Final = "Examples of event types"
STORED: Final = "Latest events"
LATEST: Final = 20
LOOKED_AT: Final = 200  # of the newest events, for those of types that a pattern means
MOST_TYPES: Final = 10  # whose newest events are asked for, a query each


def example_of(type_name: str) -> dict[str, Json]:
    """An event of this type with the type's example data, as if it had just come."""
    data = EventType.objects.filter(name=type_name).values_list("example", flat=True).first()
    event = Event(
        uid=new_uid(),
        source=_who_sends(type_name),
        event_id="example",
        type=type_name,
        time=timezone.now(),
        data={} if data is None else data,
    )
    return event.envelope()


def _who_sends(type_name: str) -> str:
    """A source that may send this type: one whose adapter brings it, else one that may send any."""
    there = [source for source in Source.objects.filter(enabled=True) if source.adapter in adapters]
    bring = [source for source in there if adapters[source.adapter].described(type_name)]
    found = bring or [source for source in there if not adapters[source.adapter].webhooks]
    return found[0].uri if found else "/example"


class EventSamples:
    """Keys are `type:NAME` and the uids of stored events."""

    def offered(self, person: Person, *, workflow: str = "", template: str = "") -> Sequence[Sample]:
        heard = _heard_by(_telling(template)) if template else _heard_by([workflow]) if workflow else ()
        return [*self._examples(person, heard), *self._stored(person, heard)]

    def event(self, person: Person, key: str) -> dict[str, Json] | None:
        kind, _, name = key.partition(":")
        if kind == "type":
            known = person.has_perm("events.view_eventtype") and EventType.objects.filter(name=name).exists()
            return example_of(name) if known else None
        try:
            uid = UUID(key.strip())
        except ValueError:
            return None
        found = Event.objects.filter(pk=uid).first() if person.has_perm("events.view_event") else None
        return found.envelope() if found else None

    def _examples(self, person: Person, heard: Sequence[str]) -> list[Sample]:
        if not person.has_perm("events.view_eventtype"):
            return []
        names = list(EventType.objects.filter(retired=False).values_list("name", flat=True))
        names.sort(key=lambda name: not _is_heard(name, heard))
        return [Sample(f"type:{name}", name, EXAMPLES) for name in names]

    def _stored(self, person: Person, heard: Sequence[str]) -> list[Sample]:
        if not person.has_perm("events.view_event"):
            return []
        exact = [name for name in heard if not name.endswith("*")][:MOST_TYPES]
        found = {event.uid: event for name in exact for event in _newest().filter(type=name)[:LATEST]}
        found |= {event.uid: event for event in _newest()[:LOOKED_AT]}
        events = sorted(found.values(), key=lambda event: event.uid, reverse=True)
        events.sort(key=lambda event: not _is_heard(event.type, heard))
        return [Sample(str(event.uid), _label(event), STORED) for event in events[:LATEST]]


def _newest() -> QuerySet[Event]:
    """Walked along the primary key, or for one type along the index `event_by_type`."""
    return Event.objects.only("uid", "type", "subject", "received_at").order_by("-uid")


def _telling(template: str) -> QuerySet[Any]:
    """The names of the workflows with a step that notifies by this template, in any version."""
    telling = WorkflowVersion.objects.filter(definition__contains={"steps": [{"with": {"template": template}}]})
    return telling.values("workflow__name")


def _heard_by(workflows: Collection[str] | QuerySet[Any]) -> list[str]:
    """The types, and patterns of types, whose events may start one of these workflows."""
    lists = Subscription.objects.filter(workflow__name__in=workflows).values_list("types", flat=True)
    return [name for names in lists for name in names]


def _is_heard(type_name: str, heard: Sequence[str]) -> bool:
    return any(type_name == it or (it.endswith("*") and type_name.startswith(it[:-1])) for it in heard)


def _label(event: Event) -> str:
    subject = f" {event.subject}" if event.subject else ""
    return f"{event.type}{subject} · {timezone.localtime(event.received_at):%Y-%m-%d %H:%M:%S}"


samples.offer(EventSamples())
