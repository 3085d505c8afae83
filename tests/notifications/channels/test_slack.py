"""Messages to Slack."""

import json
from datetime import UTC, datetime

from notifications.channels.base import Outgoing
from notifications.channels.slack import Slack
from project.identifiers import new_uid
from tests.notifications.channels.test_duties import sent
from tests.sinks import HttpSink


def test_subject_and_text_arrive_and_values_cannot_alert_everybody(http_sink: HttpSink) -> None:
    outgoing = Outgoing(
        uid=new_uid(),
        channel="chat",
        to="",
        type="t",
        created_at=datetime.now(UTC),
        attempt=1,
        timeout=5,
        subject="Build *failed*",
        text="by <!channel> & co",
    )
    sent(Slack.from_settings({"url": http_sink.url("/chat")}), outgoing)
    (request,) = http_sink.to("/chat")
    assert json.loads(request.body) == {"text": "*Build failed*\nby &lt;!channel&gt; &amp; co"}
