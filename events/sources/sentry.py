"""Sentry's integration platform (https://docs.sentry.io/organization/integrations/integration-platform/webhooks/)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, Json, TypeDoc, check_signature, first_text, with_fields
from project.api import BadRequest

_SCHEMA: Final = with_fields(
    "action data", action={"type": "string"}, data={"type": "object"}, installation={"type": ["object", "null"]}
)
_EVENTS: Final = {
    "comment.created": "An issue was commented on.",
    "comment.deleted": "A comment was deleted.",
    "comment.updated": "A comment was changed.",
    "error.created": "An error was recorded.",
    "event_alert.triggered": "An issue alert's rule applied.",
    "installation.created": "The integration was installed.",
    "installation.deleted": "The integration was removed.",
    "issue.archived": "An issue was archived.",
    "issue.assigned": "An issue was given to somebody.",
    "issue.created": "A new issue appeared.",
    "issue.resolved": "An issue was resolved.",
    "issue.unresolved": "An issue is unresolved again.",
    "metric_alert.critical": "A metric alert is critical.",
    "metric_alert.resolved": "A metric alert is over.",
    "metric_alert.warning": "A metric alert warns.",
}


@adapters.register("sentry")
class Sentry(Adapter):
    """Issues, alerts and comments of Sentry, by an internal or public integration."""

    secret: ClassVar[str] = "The integration's Client Secret: Settings, Custom Integrations in Sentry."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        f"sentry.{name}": TypeDoc(description, _SCHEMA) for name, description in _EVENTS.items()
    }
    family: ClassVar[str] = "sentry."
    common: ClassVar[Json] = _SCHEMA
    keeps: ClassVar[tuple[str, ...]] = ("sentry-hook-", "request-id")

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        # Sentry-Hook-Timestamp is not part of what is signed, so it proves nothing.
        check_signature([call.header("sentry-hook-signature")], call.body, map(str.encode, secrets))

    def translate(self, call: Call) -> list[Incoming]:
        data = call.object
        name = f"{call.headers.get('sentry-hook-resource', '')}.{data.get('action')}"
        if not re.fullmatch(r"[a-z0-9_]{1,80}\.[a-z0-9_.]{1,80}", name):
            raise BadRequest("Sentry-Hook-Resource and the body's action do not name an event.")
        subject = first_text(
            data,
            *("data.issue.shortId", "data.issue.id", "data.event.issue_id", "data.error.issue_id", "data.issue_id"),
            *("data.metric_alert.id", "installation.uuid"),
        )
        return [Incoming(f"sentry.{name}", data, id=call.headers.get("request-id", ""), subject=subject)]
