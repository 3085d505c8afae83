"""GitLab (https://docs.gitlab.com/user/project/integrations/webhooks/)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, Final

from pydantic import Field

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, Json, TypeDoc, check_same, first_text, with_fields
from events.sources.standard import check_standard
from project.api import BadRequest
from project.durations import Duration
from project.standard_webhooks import key_of

_SIGNING: Final = "whsec_"
_COMMON: Final[dict[str, Json]] = {
    "object_kind": {"type": "string"},
    "event_name": {"type": "string"},
    "project": {"type": ["object", "null"]},
    "object_attributes": {"type": "object"},
    "ref": {"type": ["string", "null"]},
}
_EVENTS: Final = {
    "access_token": ("object_kind", "An access token is about to expire."),
    "build": ("object_kind ref", "A job of a pipeline has another status."),
    "deployment": ("object_kind", "A deployment began, succeeded, failed or was cancelled."),
    "emoji": ("object_kind", "Somebody reacted with an emoji, or no longer does."),
    "feature_flag": ("object_kind object_attributes", "A feature flag was switched."),
    "issue": ("object_kind object_attributes", "An issue was opened, changed or closed."),
    "merge_request": ("object_kind object_attributes", "A merge request was opened, changed, merged or closed."),
    "milestone": ("object_kind object_attributes", "A milestone was made, closed or reopened."),
    "note": ("object_kind object_attributes", "Something was commented on."),
    "pipeline": ("object_kind object_attributes", "A pipeline has another status."),
    "push": ("object_kind ref project", "Commits were pushed."),
    "release": ("object_kind", "A release was made, changed or deleted."),
    "tag_push": ("object_kind ref project", "A tag was made or deleted."),
    "user_add_to_group": ("event_name", "Somebody joined a group."),
    "user_remove_from_group": ("event_name", "Somebody left a group."),
    "wiki_page": ("object_kind object_attributes", "A page of a wiki was made, changed or deleted."),
    "work_item": ("object_kind object_attributes", "A work item was opened, changed or closed."),
}


@adapters.register("gitlab")
class GitLab(Adapter):
    """Projects and groups on GitLab, by signing token (GitLab 19) or secret token."""

    secret: ClassVar[str] = (
        "The webhook's signing token (whsec_…), or its secret token: Settings, Webhooks of the project or group."
    )
    types: ClassVar[Mapping[str, TypeDoc]] = {
        f"gitlab.{name}": TypeDoc(description, with_fields(required, **_COMMON))
        for name, (required, description) in _EVENTS.items()
    }
    family: ClassVar[str] = "gitlab."
    common: ClassVar[Json] = with_fields(**_COMMON)
    keeps: ClassVar[tuple[str, ...]] = ("x-gitlab-", "idempotency-key", "webhook-")

    tolerance: Duration = Field(
        timedelta(minutes=5), title="Tolerance", description="How far the signed time may be from now."
    )

    def check_secret(self, secret: str) -> None:
        if secret.startswith(_SIGNING):
            key_of(secret)

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        signing = [secret for secret in secrets if secret.startswith(_SIGNING)]
        if signing and "webhook-signature" in call.headers:
            check_standard(call, signing, self.tolerance)
            return
        tokens = [secret for secret in secrets if not secret.startswith(_SIGNING)]
        if not tokens:
            call.header("webhook-signature")
        check_same([call.header("x-gitlab-token")], tokens, "X-Gitlab-Token is not the source's secret.")

    def translate(self, call: Call) -> list[Incoming]:
        data = call.object
        event = first_text(data, "object_kind", "event_name")
        if not re.fullmatch(r"[a-z0-9_]{1,100}", event):
            raise BadRequest("The body has no object_kind that names an event.")
        subject = first_text(
            data, "project.path_with_namespace", "group.full_path", "group.group_path", "group_path", "project_name"
        )
        # Not X-Gitlab-Event-UUID: events that lead to each other share it.
        return [Incoming(f"gitlab.{event}", data, id=call.headers.get("idempotency-key", ""), subject=subject)]
