"""Slack's Events API (https://docs.slack.dev/apis/events-api/)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, Final

from pydantic import Field

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import (
    Adapter,
    Call,
    Json,
    TypeDoc,
    check_signature,
    check_time,
    first_text,
    moment,
    with_fields,
)
from project.api import BadRequest
from project.durations import Duration

_SCHEMA: Final = with_fields(
    "type event", type={"const": "event_callback"}, event=with_fields("type", type={"type": "string"})
)
_EVENTS: Final = {
    "app_home_opened": "Somebody opened the app's home.",
    "app_mention": "Somebody mentioned the app.",
    "app_uninstalled": "The app was removed from a workspace.",
    "channel_archive": "A channel was archived.",
    "channel_created": "A channel was made.",
    "channel_rename": "A channel has another name.",
    "file_shared": "A file was shared.",
    "link_shared": "A link of the app's was shared.",
    "member_joined_channel": "Somebody joined a channel.",
    "member_left_channel": "Somebody left a channel.",
    "message": "A message was posted, changed or deleted.",
    "pin_added": "Something was pinned.",
    "reaction_added": "Somebody reacted to something.",
    "reaction_removed": "Somebody took a reaction back.",
    "team_join": "Somebody joined the workspace.",
    "user_change": "Somebody's profile changed.",
}


@adapters.register("slack")
class Slack(Adapter):
    """Messages, reactions, members and the rest of the Events API of a Slack app."""

    secret: ClassVar[str] = "The app's Signing Secret: Basic Information, App Credentials at api.slack.com/apps."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        f"slack.{name}": TypeDoc(description, _SCHEMA) for name, description in _EVENTS.items()
    }
    family: ClassVar[str] = "slack."
    common: ClassVar[Json] = with_fields("type", type={"type": "string"})
    keeps: ClassVar[tuple[str, ...]] = ("x-slack-",)

    tolerance: Duration = Field(
        timedelta(minutes=5), title="Tolerance", description="How far the signed time may be from now."
    )

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        stamp, given = call.header("x-slack-request-timestamp"), call.header("x-slack-signature")
        content = f"v0:{stamp}:".encode(errors="replace") + call.body
        check_signature([given.removeprefix("v0=")], content, map(str.encode, secrets))
        check_time(stamp, call, self.tolerance)

    def answer(self, call: Call) -> Json | None:
        """Slack asks an address whether it is one of ours before it takes it."""
        body = call.object
        return {"challenge": body.get("challenge")} if body.get("type") == "url_verification" else None

    def translate(self, call: Call) -> list[Incoming]:
        # `token`, by which Slack was known before it signed, is a password: nobody downstream needs it.
        data = {name: value for name, value in call.object.items() if name != "token"}
        name = first_text(data, "event.type") if data.get("type") == "event_callback" else first_text(data, "type")
        if not name:
            raise BadRequest("This is not a call of the Events API.")
        subject = first_text(data, "event.channel", "event.channel.id", "event.item.channel", "event.user", "team_id")
        time = moment(data.get("event_time"))
        return [Incoming(f"slack.{name}", data, id=first_text(data, "event_id"), subject=subject, time=time)]
