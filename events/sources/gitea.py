"""Gitea and Forgejo (https://docs.gitea.com/usage/repository/webhooks)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, Json, TypeDoc, check_signature, first_text, with_fields
from project.api import BadRequest

_COMMON: Final[dict[str, Json]] = {
    "action": {"type": "string"},
    "ref": {"type": "string"},
    "repository": with_fields("full_name", full_name={"type": "string"}),
    "commits": {"type": ["array", "null"]},
}
_EVENTS: Final = {
    "create": ("ref repository", "A branch or a tag was made."),
    "delete": ("ref repository", "A branch or a tag was deleted."),
    "fork": ("repository", "A repository was forked."),
    "issue_comment": ("action repository", "An issue or a pull request was commented on."),
    "issues": ("action repository", "An issue was opened, changed or closed."),
    "package": ("action", "A package was published or deleted."),
    "pull_request": ("action repository", "A pull request was opened, changed or closed."),
    "pull_request_approved": ("action repository", "A pull request was approved."),
    "pull_request_comment": ("action repository", "A pull request was reviewed with comments."),
    "pull_request_rejected": ("action repository", "A review asked for changes."),
    "push": ("ref commits repository", "Commits were pushed."),
    "release": ("action repository", "A release was made, changed or deleted."),
    "repository": ("action repository", "A repository was made or deleted."),
    "status": ("repository", "A commit has another status."),
    "wiki": ("action repository", "A page of a wiki was made, changed or deleted."),
    "workflow_job": ("action repository", "A job of Actions was queued, began or completed."),
    "workflow_run": ("action repository", "A run of Actions began or completed."),
}


@adapters.register("gitea")
class Gitea(Adapter):
    """Repositories on Gitea or Forgejo."""

    secret: ClassVar[str] = "The webhook's secret: Settings, Webhooks of the repository or organization."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        f"gitea.{name}": TypeDoc(description, with_fields(required, **_COMMON))
        for name, (required, description) in _EVENTS.items()
    }
    family: ClassVar[str] = "gitea."
    common: ClassVar[Json] = with_fields(**_COMMON)
    keeps: ClassVar[tuple[str, ...]] = ("x-gitea-", "x-forgejo-")

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        check_signature([call.header("x-gitea-signature")], call.body, map(str.encode, secrets))

    def translate(self, call: Call) -> list[Incoming]:
        event, data = call.headers.get("x-gitea-event", ""), call.object
        if not re.fullmatch(r"[a-z0-9_]{1,100}", event):
            raise BadRequest("The header X-Gitea-Event does not name an event.")
        subject = first_text(data, "repository.full_name", "organization.username", "sender.login")
        return [Incoming(f"gitea.{event}", data, id=call.headers.get("x-gitea-delivery", ""), subject=subject)]
