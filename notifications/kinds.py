"""Channels, templates and recipients as configuration documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from pydantic import Field

from notifications.channels import channel_types
from notifications.models import Channel, Delivery, Recipient, Template, default_schedule
from project.kinds import Conceal, Json, RowKind, Spec, kinds, one_of
from project.plugin import concealed


class ChannelSpec(Spec):
    type: str
    settings: dict[str, Any] = {}
    default: bool = False
    enabled: bool = True
    rate_limit: str = ""
    max_in_flight: int = 50
    timeout: int = 10
    retry_schedule: list[str] = Field(default_factory=default_schedule)
    fallback: str | None = None


@kinds.register("Channel")
class ChannelKind(RowKind):
    model = Channel
    spec = ChannelSpec

    @classmethod
    def refers_to(cls, data: Mapping[str, Json]) -> Collection[str]:
        return [data["fallback"]] if data.get("fallback") else []

    @classmethod
    def prepare(cls, all_data: Sequence[Mapping[str, Json]]) -> None:
        # So that being the default can pass from one channel to another, in whatever order they stand.
        others = [data["name"] for data in all_data if not data.get("default")]
        for channel in Channel.objects.filter(default=True, name__in=others):
            channel.default = False
            channel.save(update_fields=["default"])

    @classmethod
    def values(cls, data: Mapping[str, Json], wrong: dict[str, Any]) -> dict[str, Any]:
        values = super().values(data, wrong)
        try:
            values["fallback"] = one_of(Channel, data["fallback"], "channel") if data["fallback"] else None
        except ValidationError as error:
            wrong["fallback"] = error
            del values["fallback"]
        return values

    @classmethod
    def state(cls, row: Channel) -> dict[str, Json]:
        return {**super().state(row), "fallback": row.fallback.name if row.fallback else None}

    @classmethod
    def conceal(cls, state: Mapping[str, Json], conceal: Conceal) -> dict[str, Json]:
        return {**state, "settings": concealed(channel_types.get(state["type"]), state["settings"], conceal)}

    @classmethod
    def facts(cls, row: Channel) -> str:
        return "deliveries" if Delivery.objects.filter(channel=row).exists() else ""


class TemplateSpec(Spec):
    subject: str = ""
    text: str = ""
    html: str = ""
    languages: dict[str, Any] = {}


@kinds.register("Template")
class TemplateKind(RowKind):
    model = Template
    spec = TemplateSpec


class RecipientSpec(Spec):
    addresses: dict[str, Any] = {}
    language: str = "en"
    time_zone: str = "UTC"
    topics: list[str] = []
    preferences: dict[str, Any] = {}
    quiet_hours: dict[str, Any] = {}
    enabled: bool = True


@kinds.register("Recipient")
class RecipientKind(RowKind):
    model = Recipient
    spec = RecipientSpec

    @classmethod
    def facts(cls, row: Recipient) -> str:
        return "deliveries" if Delivery.objects.filter(recipient=row).exists() else ""
