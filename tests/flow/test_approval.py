"""The example of a refund through real processes: an event, a mail with a link, a decision, what follows."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from events.models import ApiKey, Source
from project.scopes import Scope
from tests.live import Live, wait_until
from tests.sinks import HttpSink, SmtpSink

pytestmark = pytest.mark.flow

ASKED = {
    "type": "refund.requested",
    "subject": "A-1001",
    "data": {"order_id": "A-1001", "amount": 40.5, "customer": "Ada", "reason": "arrived broken"},
}


def test_a_refund_is_given_when_somebody_agrees_by_the_link_in_a_mail(
    live: Live, http_sink: HttpSink, smtp_sink: SmtpSink
) -> None:
    live.environment |= {
        "EMAIL_URL": smtp_sink.url,
        "INBOX_SLACK_URL": http_sink.url("/slack"),
        "CARILLON_URL": live.url,
        "OUTBOUND_ALLOW": "127.0.0.1",
    }
    live.start("web", "worker", "performer", "sender", "clock")
    live.manage("apply", "examples")
    _, key = ApiKey.issue(Source.objects.get(name="local"), "flow", list(Scope.values))
    live.wait_ready()
    with requests.Session() as program, requests.Session() as person:
        program.headers["Authorization"] = f"Bearer {key}"
        sent = program.post(f"{live.url}/api/v1/events", json=ASKED, timeout=30)
        assert sent.status_code == 202, sent.text
        (mail,) = smtp_sink.wait_for(1)
        assert mail.message["Subject"] == "Refund 40.5 for A-1001?"
        found = re.search(r"Decide here: (\S+)", mail.text)
        assert found, mail.text

        def run() -> Any:
            trace = program.get(f"{live.url}/api/v1/events/{sent.json()['uid']}/trace", timeout=30).json()
            return trace["runs"][0]

        wait_until(lambda: run()["state"] == "waiting", what="the question")
        page = person.get(found[1], timeout=30)
        assert "A-1001" in page.text
        csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert csrf
        form = {"csrfmiddlewaretoken": csrf[1], "outcome": "approved", "comment": "of course"}
        assert "Approved" in person.post(found[1], data=form, timeout=30).text

        wait_until(lambda: run()["state"] == "succeeded", what="the end of the run")
        http_sink.wait_for(1, "/slack")
        assert [(step["id"], step["state"]) for step in run()["steps"]] == [
            ("ask", "succeeded"),
            ("decide", "succeeded"),
            ("refund", "succeeded"),
            ("tell", "succeeded"),
        ]
        record = program.get(f"{live.url}/api/v1/records/refunds/A-1001", timeout=30).json()
        assert record["value"] == {"amount": 40.5, "comment": "of course"}
        assert person.get(found[1], timeout=30).status_code == 410
