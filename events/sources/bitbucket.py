"""Bitbucket, Cloud and Data Center (https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, Json, TypeDoc, check_signature, digest, first_text, with_fields
from project.api import BadRequest

_COMMON: Final[dict[str, Json]] = {
    "actor": {"type": ["object", "null"]},
    "repository": {"type": "object"},
    **{name: {"type": "object"} for name in ("push", "pullrequest", "issue", "comment", "commit_status", "fork")},
}
_EVENTS: Final = {
    "repo:push": ("push repository", "Commits, branches or tags were pushed."),
    "repo:fork": ("fork repository", "A repository was forked."),
    "repo:updated": ("repository", "A repository's settings changed."),
    "repo:commit_comment_created": ("comment repository", "A commit was commented on."),
    "repo:commit_status_created": ("commit_status repository", "A commit was given a status."),
    "repo:commit_status_updated": ("commit_status repository", "A commit has another status."),
    "issue:created": ("issue repository", "An issue was opened."),
    "issue:updated": ("issue repository", "An issue was changed."),
    "issue:comment_created": ("issue comment repository", "An issue was commented on."),
    "pullrequest:created": ("pullrequest repository", "A pull request was opened."),
    "pullrequest:updated": ("pullrequest repository", "A pull request was changed."),
    "pullrequest:approved": ("pullrequest repository", "A pull request was approved."),
    "pullrequest:unapproved": ("pullrequest repository", "An approval was taken back."),
    "pullrequest:changes_request_created": ("pullrequest repository", "Changes were asked for."),
    "pullrequest:fulfilled": ("pullrequest repository", "A pull request was merged."),
    "pullrequest:rejected": ("pullrequest repository", "A pull request was declined."),
    "pullrequest:comment_created": ("pullrequest comment repository", "A pull request was commented on."),
}


@adapters.register("bitbucket")
class Bitbucket(Adapter):
    """Repositories on Bitbucket: pushes, pull requests, issues, build statuses."""

    secret: ClassVar[str] = "The webhook's secret: Repository settings, Webhooks on Bitbucket."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        f"bitbucket.{key.replace(':', '.')}": TypeDoc(description, with_fields(required, **_COMMON))
        for key, (required, description) in _EVENTS.items()
    }
    family: ClassVar[str] = "bitbucket."
    common: ClassVar[Json] = with_fields(**_COMMON)
    keeps: ClassVar[tuple[str, ...]] = (
        "x-event-key",
        "x-hook-uuid",
        "x-request-",
        "x-attempt-number",
        "x-hub-signature",
    )

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        given = call.header("x-hub-signature")
        check_signature([given.removeprefix("sha256=")], call.body, map(str.encode, secrets))

    def answer(self, call: Call) -> Json | None:
        return {"pong": True} if call.headers.get("x-event-key") == "diagnostics:ping" else None

    def translate(self, call: Call) -> list[Incoming]:
        key, data = call.headers.get("x-event-key", ""), call.object
        if not re.fullmatch(r"[a-zA-Z0-9_:]{1,100}", key):
            raise BadRequest("The header X-Event-Key does not name an event.")
        subject = first_text(data, "repository.full_name", "repository.slug", "pullRequest.toRef.repository.slug")
        # Each attempt may have another X-Request-UUID; the body is the same.
        return [Incoming(f"bitbucket.{key.replace(':', '.')}", data, id=digest([key, data]), subject=subject)]
