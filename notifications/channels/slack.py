"""Slack: messages by incoming webhook (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks)."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from pydantic import Field, SecretStr

from notifications.channels import channel_types
from notifications.channels.base import ChannelType, Outgoing, Receipt, post, url_problems
from project.transport import Transport

LONGEST_TEXT = 39_000  # Slack cuts a text off after 40,000 characters


@channel_types.register("slack")
class Slack(ChannelType):
    """A Slack channel, or anything that takes Slack's incoming webhooks (Mattermost, Rocket.Chat)."""

    url: SecretStr = Field(
        title="Incoming webhook",
        description="The URL that Slack shows for it. Whoever knows it can post, so it is kept secret.",
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from url_problems("url", self.url.get_secret_value())

    async def send(self, outgoing: Outgoing, transport: Transport) -> Receipt:
        body = orjson.dumps({"text": as_mrkdwn(outgoing.subject, outgoing.text)})
        return await post(transport, self.url.get_secret_value(), body, {"Content-Type": "application/json"})


def as_mrkdwn(subject: str, text: str) -> str:
    """Subject as a bold first line, then the text, with Slack's control characters escaped.

    Everything is escaped, because the text holds values from outside: `<!channel>` in an event must not wake everybody.

    >>> as_mrkdwn("Build *failed*", "see <log> & mend")
    '*Build failed*\\nsee &lt;log&gt; &amp; mend'
    """
    bold = f"*{_escape(subject.replace('*', ''))}*" if subject else ""
    return "\n".join(part for part in (bold, _escape(text)) if part)[:LONGEST_TEXT]


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
