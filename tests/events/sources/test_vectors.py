"""What the vendors publish: a secret, a body, and the signature that they say belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from events.sources import adapters, sns
from events.sources.base import Call, Refused
from project.api import BadRequest
from tests.events.sources import amazon
from tests.events.sources.vendors import PAYLOADS


@dataclass(frozen=True)
class Vector:
    """Where it is published stands above each."""

    adapter: str
    secret: str
    body: bytes
    headers: Mapping[str, str]
    at: int = 1767225600  # seconds since 1970
    settings: Mapping[str, Any] = field(default_factory=dict)


PAGERDUTY: Final = (PAYLOADS / "pagerduty" / "incident-priority-updated.json").read_bytes()
STANDARD: Final = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
PEM: Final = "SimpleNotificationService-7ff5318490ec183fbaddaa2a969abfda.pem"
SNS: Final = {
    "topics": [
        f"{amazon.TOPIC}-{name}"
        for name in ("892f85fe-4836-424d-8188-ab85bef0f362", "62674b1d-4295-426b-88e7-5fb75652a04e")
    ]
}

VECTORS: Final = {
    # https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/#Secure-webhooks
    "bitbucket": Vector(
        "bitbucket",
        "It's a Secret to Everybody",
        b"Hello World!",
        {"x-hub-signature": "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"},
    ),
    # https://github.com/PagerDuty/go-pagerduty, webhook_signature_test.go
    "pagerduty": Vector(
        "pagerduty",
        "lDQHScfUeXUKaQRNF+8XIiDKZ7XX3itBAYzwU0TARw8lJqRnkKl2iB1anSb0Z+IK",
        PAGERDUTY,
        {"x-pagerduty-signature": "v1=0c0b9495b893a39e70d1fea2fe11fbe0a825f88b9f67846f6cc07dd2bc5476cd"},
    ),
    # https://docs.slack.dev/authentication/verifying-requests-from-slack
    "slack": Vector(
        "slack",
        "8f742231b10e8888abcd99yyyzzz85a5",
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
        b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F"
        b"96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        at=1531420618,
    ),
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    "standard": Vector(
        "standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}', STANDARD, at=1614265330
    ),
    "standard by svix": Vector(
        "standard",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        b'{"test": 2432232314}',
        {name.replace("webhook", "svix"): value for name, value in STANDARD.items()},
        at=1614265330,
    ),
    "gitlab by signing token": Vector(
        "gitlab", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}', STANDARD, at=1614265330
    ),
    # Signed by Amazon; https://github.com/aws/aws-sdk-ruby, aws-sdk-sns/spec/message_verifier_spec.rb
    "sns, version 1": Vector("sns", "", (PAYLOADS / "sns" / "notification-v1.json").read_bytes(), {}, 1659043500, SNS),
    "sns, version 2": Vector("sns", "", (PAYLOADS / "sns" / "notification-v2.json").read_bytes(), {}, 1659043500, SNS),
    # RFC 7617, 2
    "basic": Vector(
        "basic",
        "open sesame",
        b"",
        {"authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
        settings={"user": "Aladdin", "type": "t"},
    ),
    # RFC 6750, 2.1
    "token": Vector(
        "token", "mF_9.B5f-4.1JqM", b"", {"authorization": "Bearer mF_9.B5f-4.1JqM"}, settings={"type": "t"}
    ),
    # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    "github": Vector(
        "github",
        "It's a Secret to Everybody",
        b"Hello, World!",
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
    ),
    # RFC 4231, test case 2
    "hmac by sha512": Vector(
        "hmac",
        "Jefe",
        b"what do ya want for nothing?",
        {
            "x-signature": "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a"
            "6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        },
        settings={"header": "X-Signature", "algorithm": "sha512", "type": "t"},
    ),
    # RFC 2202, test case 1 for SHA-1
    "hmac by sha1, the key in hex": Vector(
        "hmac",
        "0b" * 20,
        b"Hi There",
        {"x-signature": "b617318655057264e28bc0b6fb378c8ef146be00"},
        settings={"header": "X-Signature", "algorithm": "sha1", "secret_encoding": "hex", "type": "t"},
    ),
}


@pytest.fixture(autouse=True)
def _the_certificate_of_that_year(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"https://sns.us-east-2.amazonaws.com/{PEM}"
    monkeypatch.setitem(sns.certificates, address, (PAYLOADS / "sns" / PEM).read_bytes())


def verify(vector: Vector, body: bytes | None = None) -> None:
    adapter = adapters[vector.adapter].from_settings(vector.settings)
    at = datetime.fromtimestamp(vector.at, UTC)
    body = vector.body if body is None else body
    adapter.verify(Call(body=body, headers=vector.headers, query={}, at=at), [vector.secret])


@pytest.mark.parametrize("vector", VECTORS.values(), ids=list(VECTORS))
def test_a_published_signature_holds(vector: Vector) -> None:
    verify(vector)


SIGNED: Final = {name: vector for name, vector in VECTORS.items() if vector.body}


@pytest.mark.parametrize("vector", SIGNED.values(), ids=list(SIGNED))
def test_it_holds_for_nothing_else(vector: Vector) -> None:
    with pytest.raises(Refused):
        verify(vector, vector.body.replace(b"o", b"0").replace(b"2", b"3").replace(b"Hi", b"Ho"))
    with pytest.raises((Refused, BadRequest)):
        verify(vector, b"")
