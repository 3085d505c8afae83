"""PagerDuty's webhooks, version 3 (https://developer.pagerduty.com/docs/webhooks-overview)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, Json, TypeDoc, check_signature, first_text, moment, with_fields

_SCHEMA: Final = with_fields(
    "event",
    event=with_fields(
        "id event_type data",
        id={"type": "string"},
        event_type={"type": "string"},
        occurred_at={"type": "string"},
        data={"type": "object"},
    ),
)
_EVENTS: Final = {
    "incident.acknowledged": "Somebody took an incident.",
    "incident.annotated": "An incident was given a note.",
    "incident.delegated": "An incident was handed to another escalation policy.",
    "incident.escalated": "An incident went on to the next level.",
    "incident.priority_updated": "An incident has another priority.",
    "incident.reassigned": "An incident was given to somebody else.",
    "incident.reopened": "An incident is open again.",
    "incident.resolved": "An incident is over.",
    "incident.responder.added": "Somebody was asked to help with an incident.",
    "incident.responder.replied": "Somebody who was asked to help replied.",
    "incident.status_update_published": "An incident's status was told.",
    "incident.triggered": "An incident began.",
    "incident.unacknowledged": "An incident is nobody's again.",
    "service.created": "A service was made.",
    "service.deleted": "A service was deleted.",
    "service.updated": "A service was changed.",
}


@adapters.register("pagerduty")
class PagerDuty(Adapter):
    """Incidents and services of PagerDuty, by a generic webhook (version 3)."""

    secret: ClassVar[str] = "The webhook subscription's signing secret, which PagerDuty shows once when it is made."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        f"pagerduty.{name}": TypeDoc(description, _SCHEMA) for name, description in _EVENTS.items()
    }
    family: ClassVar[str] = "pagerduty."
    common: ClassVar[Json] = _SCHEMA
    keeps: ClassVar[tuple[str, ...]] = ("x-pagerduty-", "x-webhook-")

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        # While a secret is changed, PagerDuty signs with both.
        given = re.split(r",\s*", call.header("x-pagerduty-signature"))
        signatures = [part.removeprefix("v1=") for part in given if part.startswith("v1=")]
        check_signature(signatures, call.body, map(str.encode, secrets))

    def answer(self, call: Call) -> Json | None:
        return {"pong": True} if first_text(call.json, "event.event_type") == "pagey.ping" else None

    def translate(self, call: Call) -> list[Incoming]:
        event = call.object["event"]
        return [
            Incoming(
                f"pagerduty.{event['event_type']}",
                call.object,
                id=str(event["id"]),
                subject=first_text(event, "data.incident.id", "data.id"),
                time=moment(event.get("occurred_at")),
            )
        ]
