"""Sources, event types and subscriptions as configuration documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q
from pydantic import BaseModel, ConfigDict, Field

from events.models import SECRETS, Event, EventSchema, EventType, Schedule, Source, Subscription
from events.sources import adapters
from project.faults import fault, place_of
from project.identifiers import OWN_SOURCE
from project.kinds import Conceal, Json, RowKind, Spec, kinds, one_of
from project.plugin import concealed
from workflows.models import Run, Workflow


class SourceSpec(Spec):
    adapter: str = "api"
    secret: str | None = None
    previous_secret: str | None = None
    settings: dict[str, Any] = {}
    rate_limit: str = ""
    enabled: bool = True


@kinds.register("Source")
class SourceKind(RowKind):
    model = Source
    spec = SourceSpec
    after = ("EventType",)  # a type that a file describes is not brought by the adapter

    @classmethod
    def values(cls, data: Mapping[str, Json], wrong: dict[str, Any]) -> dict[str, Any]:
        values = super().values(data, wrong)
        for name in SECRETS:
            if data[name] is None:  # left out: what is stored stays, so that a file needs no secrets
                del values[name]
        return values

    @classmethod
    def relate(cls, row: Source, data: Mapping[str, Json]) -> None:
        if row.adapter in adapters:
            row.bring_types()

    @classmethod
    def state(cls, row: Source) -> dict[str, Json]:
        return {**super().state(row), **{name: getattr(row, name) or None for name in SECRETS}}

    @classmethod
    def conceal(cls, state: Mapping[str, Json], conceal: Conceal) -> dict[str, Json]:
        hidden = {name: state[name] and conceal(name, state[name]) for name in SECRETS}
        settings = concealed(adapters.get(state["adapter"]), state["settings"], conceal)
        return {**state, **hidden, "settings": settings}

    @classmethod
    def facts(cls, row: Source) -> str:
        if Event.objects.filter(Q(source=row.uri) | Q(source__startswith=f"{row.uri}/")).exists():
            return "events"
        return "API keys" if row.keys.exists() else ""


class EventTypeSpec(Spec):
    json_schema: dict[str, Any] | bool | None = Field(None, alias="schema")
    example: Any = None
    retired: bool = False


@kinds.register("EventType")
class EventTypeKind(RowKind):
    """A schema that differs from the latest becomes a new version; a document without one leaves the versions alone."""

    model = EventType
    spec = EventTypeSpec
    before = ("Workflow",)  # steps emit events, and wait for them

    @classmethod
    def values(cls, data: Mapping[str, Json], wrong: dict[str, Any]) -> dict[str, Any]:
        try:
            if data["schema"] is not None:
                EventSchema(schema=data["schema"]).clean()
        except ValidationError as error:
            wrong |= error.error_dict
        return super().values(data, wrong)

    @classmethod
    def relate(cls, row: EventType, data: Mapping[str, Json]) -> None:
        if data["schema"] is not None:
            row.add_schema(data["schema"])

    @classmethod
    def state(cls, row: EventType) -> dict[str, Json]:
        latest = row.schemas.first()
        return {**super().state(row), "schema": latest.schema if latest else None}

    @classmethod
    def belongs(cls, row: EventType) -> bool:
        used = Source.objects.values_list("adapter", flat=True).distinct()
        return any(row.name in adapter.types for name in used if (adapter := adapters.get(name)))

    @classmethod
    def facts(cls, row: EventType) -> str:
        return "events" if Event.objects.filter(type=row.name).exists() else ""

    @classmethod
    def disable(cls, row: EventType) -> bool:
        was_on = not row.retired
        row.retired = True
        row.save(update_fields=["retired"])
        return was_on


class SubscriptionSpec(Spec):
    types: list[str]
    sources: list[str] = []
    filter: str = ""
    workflow: str
    enabled: bool = True


@kinds.register("Subscription")
class SubscriptionKind(RowKind):
    model = Subscription
    spec = SubscriptionSpec
    after = ("Source", "EventType", "Workflow")

    @classmethod
    def values(cls, data: Mapping[str, Json], wrong: dict[str, Any]) -> dict[str, Any]:
        values = super().values(data, wrong)
        try:
            values["workflow"] = one_of(Workflow, data["workflow"], "workflow")
        except ValidationError as error:
            wrong["workflow"] = error
            del values["workflow"]
        try:
            _sources(data)
        except ValidationError as error:
            wrong["sources"] = error
        return values

    @classmethod
    def relate(cls, row: Subscription, data: Mapping[str, Json]) -> None:
        sources = _sources(data)
        if set(row.sources.all()) != set(sources):
            row.sources.set(sources)

    @classmethod
    def state(cls, row: Subscription) -> dict[str, Json]:
        sources = sorted(source.name for source in row.sources.all())
        return {**super().state(row), "workflow": row.workflow.name, "sources": sources}

    @classmethod
    def facts(cls, row: Subscription) -> str:
        return "runs" if Run.objects.filter(workflow=row.workflow, trigger=row.name).exists() else ""


class ScheduledEvent(BaseModel):
    """The event that a schedule makes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: str
    source: str = OWN_SOURCE
    subject: str = ""
    data: Any = None


class ScheduleSpec(Spec):
    cron: str
    time_zone: str = "UTC"
    event: ScheduledEvent
    enabled: bool = True


@kinds.register("Schedule")
class ScheduleKind(RowKind):
    model = Schedule
    spec = ScheduleSpec
    derived = ("due_at",)
    after = ("Source", "EventType")

    @classmethod
    def values(cls, data: Mapping[str, Json], wrong: dict[str, Any]) -> dict[str, Any]:
        return {**super().values(data, wrong), **data["event"]}

    @classmethod
    def state(cls, row: Schedule) -> dict[str, Json]:
        event = {name: getattr(row, name) for name in ScheduledEvent.model_fields}
        said = ScheduledEvent(**event).model_dump(exclude_defaults=True)
        return {**super().state(row), "event": said}

    @classmethod
    def in_document(cls, wrong: Mapping[str, Any]) -> Mapping[str, Any]:
        found = ValidationError(dict(wrong)).error_dict
        inside = [
            fault(f"{name}.{place_of(error)}".rstrip("."), message)
            for name in ScheduledEvent.model_fields
            for error in found.pop(name, [])
            for message in _messages(error)
        ]
        return {**found, **({"event": inside} if inside else {})}


def _messages(error: ValidationError) -> list[str]:
    """What it says, without where."""
    return [error.params["message"]] if error.params and "path" in error.params else list(error.messages)


def _sources(data: Mapping[str, Json]) -> list[Source]:
    """The subscription's sources. Raises ValidationError for a name that there is none of."""
    return [one_of(Source, name, "source") for name in data["sources"]]
