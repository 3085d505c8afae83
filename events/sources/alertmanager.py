"""Prometheus Alertmanager (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from pydantic import Field

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, Json, TypeDoc, check_authorization, with_fields

_TEXTS: Final[Json] = {"type": "object", "additionalProperties": {"type": "string"}}
_STATUS: Final[Json] = {"enum": ["firing", "resolved"]}


def group_of_alerts(**properties: Json) -> Json:
    """The schema of a notification about a group of alerts, as Alertmanager writes it, and Grafana after it."""
    alert = with_fields(
        "status labels startsAt fingerprint",
        status=_STATUS,
        labels=_TEXTS,
        annotations=_TEXTS,
        startsAt={"type": "string", "format": "date-time"},
        fingerprint={"type": "string"},
    )
    return with_fields(
        "groupKey status alerts commonLabels",
        groupKey={"type": "string", "minLength": 1},
        status=_STATUS,
        alerts={"type": "array", "minItems": 1, "items": alert},
        commonLabels=_TEXTS,
        commonAnnotations=_TEXTS,
        **properties,
    )


@adapters.register("alertmanager")
class Alertmanager(Adapter):
    """Alerts that begin or cease to fire, from Prometheus' Alertmanager; an event for each notification of a group."""

    secret: ClassVar[str] = "The credentials (or basic_auth.password) in http_config of the webhook receiver."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        "alertmanager.alert": TypeDoc(
            "A group of alerts began or ceased to fire.", group_of_alerts(version={"const": "4"})
        )
    }

    user: str = Field(
        "", title="User name", description="Of basic_auth. Empty: Authorization is Bearer and the secret."
    )

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        check_authorization(call, secrets, user=self.user)

    def translate(self, call: Call) -> list[Incoming]:
        # Alertmanager numbers nothing. What it repeats, or sends again, is the same body: the same event.
        return [Incoming("alertmanager.alert", call.object, subject=str(call.object["groupKey"]))]
