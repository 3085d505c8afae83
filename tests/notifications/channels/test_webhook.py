"""Webhooks by the Standard Webhooks specification, checked by two libraries of others."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
import svix

from notifications.channels.base import Outgoing
from notifications.channels.webhook import Webhook
from project.identifiers import new_uid
from project.standard_webhooks import sign
from tests.notifications.channels.test_duties import SECRET, sent
from tests.sinks import HttpSink, Received

OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
MESSAGE = Outgoing(
    uid=new_uid(),
    channel="hook",
    to="",
    type="order.paid",
    created_at=datetime(2026, 1, 1, 12, 30, 15, 250000, tzinfo=UTC),
    attempt=1,
    timeout=5,
    data={"order": "A-7", "customer": "Grüße 🎉", "amount": 129.5},
)


def received(sink: HttpSink, message: Outgoing = MESSAGE, **settings: Any) -> Received:
    sent(Webhook.from_settings({"url": sink.url("/hook"), **settings}), message)
    return sink.requests[-1]


def test_the_specifications_vector_holds() -> None:
    signature = sign([SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_body_is_type_timestamp_and_data(http_sink: HttpSink) -> None:
    assert json.loads(received(http_sink).body) == {
        "type": "order.paid",
        "timestamp": "2026-01-01T12:30:15.250000+00:00",
        "data": MESSAGE.data,
    }


@pytest.mark.parametrize("library", [standardwebhooks.Webhook, svix.Webhook])
def test_other_libraries_verify_what_we_send(http_sink: HttpSink, library: Any) -> None:
    request = received(http_sink, secret=SECRET)
    assert request.headers["webhook-id"] == str(MESSAGE.uid)
    library(SECRET).verify(request.body, dict(request.headers))  # raises when it does not hold


@pytest.mark.parametrize("library", [standardwebhooks.Webhook, svix.Webhook])
def test_while_secrets_change_both_are_valid(http_sink: HttpSink, library: Any) -> None:
    request = received(http_sink, secret=SECRET, previous_secret=OLD_SECRET)
    for secret in (SECRET, OLD_SECRET):
        library(secret).verify(request.body, dict(request.headers))
    stranger = library("whsec_" + "QUJD" * 10)
    with pytest.raises((standardwebhooks.WebhookVerificationError, svix.WebhookVerificationError)):
        stranger.verify(request.body, dict(request.headers))


def test_a_changed_body_is_found_out(http_sink: HttpSink) -> None:
    request = received(http_sink, secret=SECRET)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(request.body + b" ", dict(request.headers))


def test_another_attempt_has_the_same_id_and_body(http_sink: HttpSink) -> None:
    first = received(http_sink, secret=SECRET)
    second = received(http_sink, replace(MESSAGE, attempt=2), secret=SECRET)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_without_a_secret_nothing_is_signed(http_sink: HttpSink) -> None:
    assert "webhook-signature" not in received(http_sink).headers
    assert "webhook-signature" not in received(http_sink, secret="").headers


def test_more_headers_are_sent(http_sink: HttpSink) -> None:
    request = received(http_sink, headers={"Authorization": "Bearer token"})
    assert request.headers["authorization"] == "Bearer token"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"secret": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"secret": "not base64 !"}, "24 to 64 bytes"),
        ({"headers": {"webhook-id": "x"}}, "webhook-id is set by Carillon itself"),
        ({"headers": {"a b": "x"}}, '"a b" is not a header name'),
        ({"headers": {"X-A": "x\r\nX-B: y"}}, "the value of X-A must be one line"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    ((_, problem),) = Webhook.problems({"url": "https://example.com", **settings})
    assert message in problem
