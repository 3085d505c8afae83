"""The channels and templates as they are configured now, made ready once and kept until one of them changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from notifications.channels import channel_types
from notifications.channels.base import ChannelType
from notifications.models import Channel, Template
from project.configuration import cached
from project.plugin import SettingsError
from project.rates import Rate
from project.registry import UnknownName
from project.retry import Schedule


@dataclass(frozen=True, slots=True)
class LiveChannel:
    """A channel with its settings read. `problem` says what is wrong with them; then `type` is None."""

    id: int
    name: str
    kind: str
    type: ChannelType | None
    problem: str
    default: bool
    enabled: bool
    timeout: float  # seconds
    max_in_flight: int
    schedule: Schedule
    rate: Rate | None
    fallback_id: int | None

    @classmethod
    def of(cls, row: Channel) -> LiveChannel:
        """Never raises: a channel with a mistake must not stop the others."""
        type_, schedule, rate, problem = None, Schedule(), None, ""
        try:
            type_ = channel_types[row.type].from_settings(row.settings)
            schedule = Schedule.model_validate(row.retry_schedule)
            rate = Rate.parse(row.rate_limit) if row.rate_limit else None
        except (UnknownName, SettingsError, ValueError) as error:
            type_, problem = None, f"channel {row.name} is not set up right: {error}"
        return cls(
            id=row.pk,
            name=row.name,
            kind=row.type,
            type=type_,
            problem=problem,
            default=row.default,
            enabled=row.enabled,
            timeout=float(row.timeout),
            max_in_flight=row.max_in_flight,
            schedule=schedule,
            rate=rate,
            fallback_id=row.fallback_id,
        )


@dataclass(frozen=True, slots=True)
class LiveTemplate:
    """A template's sources."""

    name: str
    sources: Mapping[str, str]
    languages: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All channels and templates."""

    channels: Mapping[str, LiveChannel]
    by_id: Mapping[int, LiveChannel]
    defaults: Mapping[str, LiveChannel]  # by kind
    templates: Mapping[str, LiveTemplate]


@cached
def catalogue() -> Catalogue:
    channels = [LiveChannel.of(row) for row in Channel.objects.all()]
    templates = [
        LiveTemplate(row.name, {"subject": row.subject, "text": row.text, "html": row.html}, row.languages)
        for row in Template.objects.all()
    ]
    return Catalogue(
        channels={channel.name: channel for channel in channels},
        by_id={channel.id: channel for channel in channels},
        defaults={channel.kind: channel for channel in channels if channel.default},
        templates={template.name: template for template in templates},
    )
