"""What tests of notifications share: channels to a sink, senders that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from notifications.models import Channel
from notifications.sender import Sender
from tests.sinks import HttpSink, SmtpSink

MakeChannel = Callable[..., Channel]
MakeSender = Callable[..., Sender]


@pytest.fixture
def webhook(http_sink: HttpSink) -> MakeChannel:
    """Make a webhook channel `name` that leads to the sink's path `/name`."""

    def make(name: str, **fields: Any) -> Channel:
        settings = {"url": http_sink.url(f"/{name}"), **fields.pop("settings", {})}
        return Channel.objects.create(name=name, type="webhook", settings=settings, **fields)

    return make


@pytest.fixture
def mail_server(smtp_sink: SmtpSink, settings: Any) -> SmtpSink:
    """The SMTP sink, as the server that EMAIL_URL names."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", smtp_sink.port
    return smtp_sink


@pytest.fixture
def start_sender() -> Iterator[MakeSender]:
    """Make a sender, as another process would have it; it is stopped at the end."""
    senders: list[Sender] = []

    def start(**options: Any) -> Sender:
        senders.append(Sender(**options))
        return senders[-1]

    yield start
    for sender in senders:
        sender.stop(patience=3)
