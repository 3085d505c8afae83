"""What every channel type must do. A new type gets its line in FAMILY, and the whole suite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from notifications.channels import channel_types
from notifications.channels.base import ChannelType, Outgoing, Receipt, SendError
from project.http import AddressRefused
from project.identifiers import new_uid
from project.plugin import SettingsError
from project.transport import Transport
from tests.sinks import Answer, HttpSink, SmtpSink

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Member:
    """How one type is tried: its settings for an HTTP sink's URL, where it sends, which of its settings are secret."""

    settings: Callable[[str], dict[str, Any]]
    to: str = ""
    http: bool = True
    broker: bool = False  # how it sends is in test_brokers.py
    secrets: dict[str, Any] = field(default_factory=dict)
    wrong: dict[str, Any] = field(default_factory=dict)


AWS = {"region": "eu-west-1", "access_key": "AKIATESTS", "secret_key": "k3y"}


def place(url: str) -> str:
    """The sink's host and port."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 443}"


FAMILY = {
    "email": Member(
        lambda url: {}, to="ada@example.com", http=False, wrong={"from_email": "nobody", "reply_to": "a@b\nBcc: c@d"}
    ),
    "webhook": Member(
        lambda url: {"url": url},
        secrets={"secret": SECRET, "previous_secret": SECRET, "headers": {"Authorization": "Bearer s3cret"}},
        wrong={"secret": "whsec_short", "headers": {"Host": "x"}, "url": "ftp://example.com"},
    ),
    "slack": Member(lambda url: {"url": url}, secrets={"url": "https://example.com/T000/s3cret"}, wrong={"url": "x"}),
    "rabbitmq": Member(
        lambda url: {"url": f"amqp://guest:guest@{place(url)}/", "routing_key": "orders"},
        http=False,
        broker=True,
        secrets={"url": "amqp://me:s3cret@example.com/"},
        wrong={"url": "http://example.com", "routing_key": "", "prefix": "x-"},
    ),
    "redis": Member(
        lambda url: {"url": f"redis://{place(url)}/0", "stream": "orders"},
        http=False,
        broker=True,
        secrets={"url": "redis://me:s3cret@example.com/0"},
        wrong={"url": "amqp://example.com", "stream": "", "length": -1},
    ),
    "kafka": Member(
        lambda url: {"servers": place(url), "topic": "orders"},
        http=False,
        broker=True,
        secrets={"password": "s3cret"},
        wrong={"servers": "example.com", "topic": "order/paid", "mechanism": "PLAIN", "mode": "xml"},
    ),
    "nats": Member(
        lambda url: {"url": f"nats://{place(url)}", "subject": "orders.{type}"},
        http=False,
        broker=True,
        secrets={"password": "s3cret", "token": "s3cret"},
        wrong={"url": "http://example.com", "subject": "orders.>"},
    ),
    "mqtt": Member(
        lambda url: {"host": "127.0.0.1", "port": int(place(url).partition(":")[2]), "topic": "orders/{type}"},
        http=False,
        broker=True,
        secrets={"password": "s3cret"},
        wrong={"host": "mqtt://example.com", "topic": "orders/#", "port": 0, "authority": "x"},
    ),
    "sqs": Member(
        lambda url: {**AWS, "endpoint": f"http://{place(url)}", "queue": "http://localhost/1/orders"},
        http=False,
        broker=True,
        secrets={"secret_key": "s3cret"},
        wrong={"queue": "orders", "endpoint": "ftp://example.com", "access_key": ""},
    ),
    "sns": Member(
        lambda url: {**AWS, "endpoint": f"http://{place(url)}", "topic": "arn:aws:sns:eu-west-1:123456789012:orders"},
        http=False,
        broker=True,
        secrets={"secret_key": "s3cret"},
        wrong={"topic": "orders", "endpoint": "ftp://example.com", "access_key": ""},
    ),
}


def test_every_type_is_held_to_these_duties() -> None:
    assert sorted(FAMILY) == channel_types.names()


@pytest.fixture(params=sorted(FAMILY))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(kind for kind, member in FAMILY.items() if not member.broker))
def answering_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(kind for kind, member in FAMILY.items() if member.http))
def http_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def message_for(kind: str) -> Outgoing:
    return Outgoing(
        uid=new_uid(),
        channel="tried",
        to=FAMILY[kind].to,
        type="order.paid",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        attempt=1,
        timeout=5,
        subject="Grüße",
        text="Hello <there>",
        html="<p>Hello</p>",
        data={"n": 1},
    )


@pytest.fixture
def url(http_sink: HttpSink) -> str:
    return http_sink.url("/it")


def made(kind: str, sink: str, **more: Any) -> ChannelType:
    return channel_types[kind].from_settings({**FAMILY[kind].settings(sink), **more})


def sent(type_: ChannelType, *messages: Outgoing) -> list[Receipt]:
    """Receipts of messages sent one after the other by one transport; raises what `send` raises."""

    async def send() -> list[Receipt]:
        transport = Transport()
        try:
            return [await type_.send(message, transport) for message in messages]
        finally:
            await transport.close()

    return asyncio.run(send())


def refusal(type_: ChannelType, message: Outgoing) -> SendError:
    with pytest.raises(SendError) as error:
        sent(type_, message)
    return error.value


def test_every_setting_has_a_title_and_a_description(kind: str) -> None:
    for name, setting in channel_types[kind].model_fields.items():
        assert setting.title, name
        assert setting.description, name
    assert channel_types[kind].__doc__


def test_an_unknown_setting_is_refused_and_the_known_ones_are_named(kind: str, url: str) -> None:
    with pytest.raises(SettingsError) as error:
        made(kind, url, colour="red")
    assert error.value.problems == [
        ("colour", f"unknown setting; known: {', '.join(channel_types[kind].model_fields)}")
    ]


def test_a_variable_that_is_not_set_is_named(kind: str, url: str) -> None:
    first = next(iter(channel_types[kind].model_fields))
    with pytest.raises(SettingsError, match="no variable NOT_SET"):
        made(kind, url, **{first: "${NOT_SET}"})


def test_good_settings_have_no_problems(kind: str) -> None:
    assert channel_types[kind].problems(FAMILY[kind].settings("https://example.com/hook")) == []


def test_wrong_settings_are_told_by_field_without_showing_a_secret(kind: str) -> None:
    for name, value in FAMILY[kind].wrong.items():
        settings = {**FAMILY[kind].settings("https://example.com/hook"), name: value}
        problems = channel_types[kind].problems(settings)
        assert [path for path, _ in problems] == [name]
        assert not isinstance(value, str) or name == "url" or "short" not in problems[0][1]


def test_secrets_are_masked_wherever_settings_are_shown(kind: str, url: str) -> None:
    type_ = made(kind, url, **FAMILY[kind].secrets)
    shown = f"{type_!r} {type_} {type_.model_dump()} {type_.model_dump_json()}"
    for value in FAMILY[kind].secrets.values():
        for secret in value.values() if isinstance(value, dict) else [value]:
            assert secret not in shown


def test_secret_settings_are_declared_as_such(kind: str, url: str) -> None:
    type_ = made(kind, url, **FAMILY[kind].secrets)
    for name in FAMILY[kind].secrets:
        value = getattr(type_, name)
        assert isinstance(value, SecretStr) or all(isinstance(item, SecretStr) for item in value.values())


def test_an_address_is_asked_for_or_the_channel_knows_its_own(kind: str, url: str) -> None:
    type_ = made(kind, url)
    if type_.address is None:
        assert type_.own_address() == ""
    else:
        assert type_.check_address(FAMILY[kind].to) == FAMILY[kind].to
        with pytest.raises(ValueError, match="not an"):
            type_.check_address("not an address\n")


@pytest.mark.usefixtures("mail_server")
def test_a_message_that_arrives_has_a_receipt(answering_kind: str, url: str) -> None:
    (receipt,) = sent(made(answering_kind, url), message_for(answering_kind))
    assert receipt.status in (200, 250)
    assert receipt.response


def test_nobody_there_is_worth_another_try(kind: str, http_sink: HttpSink, mail_server: SmtpSink) -> None:
    http_sink.stop()
    mail_server.stop()
    error = refusal(made(kind, http_sink.url("/it")), message_for(kind))
    assert not error.permanent
    assert error.hold
    assert str(error)


@pytest.mark.parametrize("status", [302, 408, 409, 425, 429, 500, 502, 503])
def test_an_answer_that_may_change_is_worth_another_try(
    http_kind: str, url: str, http_sink: HttpSink, status: int
) -> None:
    http_sink.answers["/it"] = [
        Answer(status, b"not now", headers={"Retry-After": "7", "Location": "https://x.example"})
    ]
    error = refusal(made(http_kind, url), message_for(http_kind))
    assert (error.permanent, error.hold, error.status) == (False, True, status)
    assert error.retry_after is not None
    assert error.retry_after.total_seconds() == 7


@pytest.mark.parametrize(("status", "hold"), [(400, False), (422, False), (401, True), (404, True), (410, True)])
def test_an_answer_that_will_not_change_is_permanent(
    http_kind: str, url: str, http_sink: HttpSink, status: int, hold: bool
) -> None:
    http_sink.answers["/it"] = [Answer(status, b"never")]
    error = refusal(made(http_kind, url), message_for(http_kind))
    assert (error.permanent, error.hold, error.status, str(error)) == (True, hold, status, "never")


def test_a_redirect_is_not_followed(http_kind: str, url: str, http_sink: HttpSink) -> None:
    http_sink.answers["/it"] = [Answer(307, headers={"Location": http_sink.url("/elsewhere")})]
    assert "/elsewhere, which is not followed" in str(refusal(made(http_kind, url), message_for(http_kind)))
    assert http_sink.to("/elsewhere") == []


def test_an_inner_address_is_refused_when_saved_and_when_called(
    http_kind: str, url: str, http_sink: HttpSink, settings: Any
) -> None:
    settings.OUTBOUND_ALLOW = []
    ((path, problem),) = channel_types[http_kind].problems(FAMILY[http_kind].settings(url))
    assert path == "url"
    assert "OUTBOUND_ALLOW" in problem
    error = refusal(made(http_kind, url), message_for(http_kind))
    assert error.permanent
    assert isinstance(error.__cause__, AddressRefused)
    assert http_sink.requests == []


def test_a_body_is_json_with_its_type(http_kind: str, url: str, http_sink: HttpSink) -> None:
    sent(made(http_kind, url), message_for(http_kind))
    (request,) = http_sink.requests
    assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
    assert json.loads(request.body)
