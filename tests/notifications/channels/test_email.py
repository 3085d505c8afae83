"""Mail through Django's backend to a real SMTP server."""

from __future__ import annotations

import asyncio
import smtplib
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from notifications.channels.base import Outgoing, Receipt, SendError
from notifications.channels.email import THREADS, Email, as_send_error
from project.identifiers import new_uid
from project.transport import Transport
from tests.live import wait_until
from tests.notifications.channels.test_duties import refusal, sent
from tests.sinks import SmtpSink

MESSAGE = Outgoing(
    uid=new_uid(),
    channel="mail",
    to="ada@example.com",
    type="order.paid",
    created_at=datetime.now(UTC),
    attempt=1,
    timeout=5,
    subject="Grüße 🎉",
    text="Plain",
    html="<p>Rich</p>",
)


def test_a_mail_has_its_parts_and_headers(mail_server: SmtpSink) -> None:
    type_ = Email.from_settings({"from_email": "Shop <shop@example.com>", "reply_to": "help@example.com"})
    assert sent(type_, MESSAGE) == [Receipt(250, "accepted by the mail server")]
    (mail,) = mail_server.mails
    assert (mail.sender, mail.recipients) == ("shop@example.com", ["ada@example.com"])
    headers = mail.message
    assert (headers["Subject"], headers["From"]) == ("Grüße 🎉", "Shop <shop@example.com>")
    assert (headers["Reply-To"], headers["Auto-Submitted"]) == ("help@example.com", "auto-generated")
    assert headers["Message-ID"] == f"<{MESSAGE.uid}@example.com>"
    assert mail.text.strip() == "Plain"
    html = mail.message.get_body(("html",))
    assert html is not None
    assert html.get_content().strip() == "<p>Rich</p>"


def test_a_mail_without_html_is_plain(mail_server: SmtpSink) -> None:
    sent(Email(), replace(MESSAGE, html=""))
    assert mail_server.mails[0].message.get_content_type() == "text/plain"


@pytest.mark.parametrize("field", ["subject", "to"])
def test_no_value_can_add_a_header(mail_server: SmtpSink, field: str) -> None:
    injected = "x@example.com\nBcc: all@example.com"
    error = refusal(
        Email(), replace(MESSAGE, subject=injected) if field == "subject" else replace(MESSAGE, to=injected)
    )
    assert error.permanent
    assert not error.hold
    assert mail_server.mails == []


@pytest.mark.parametrize(
    ("answer", "permanent"), [("550 5.1.1 No such user", True), ("451 4.7.1 Greylisted, come back", False)]
)
def test_a_refused_recipient_says_nothing_about_the_server(mail_server: SmtpSink, answer: str, permanent: bool) -> None:
    mail_server.refusals["ada@example.com"] = answer
    error = refusal(Email(), MESSAGE)
    assert (error.permanent, error.hold, error.status) == (permanent, False, int(answer[:3]))
    assert answer[4:] in str(error)


@pytest.mark.parametrize(
    ("answer", "permanent", "hold"), [("554 5.7.1 Spam", True, False), ("452 4.3.1 Disk full", False, True)]
)
def test_a_refused_mail_is_permanent_with_5xx_only(
    mail_server: SmtpSink, answer: str, permanent: bool, hold: bool
) -> None:
    mail_server.answer = answer
    error = refusal(Email(), MESSAGE)
    assert (error.permanent, error.hold, error.status) == (permanent, hold, int(answer[:3]))


@pytest.mark.parametrize(
    ("error", "permanent", "hold"),
    [
        (smtplib.SMTPAuthenticationError(535, b"wrong password"), False, True),
        (smtplib.SMTPSenderRefused(550, b"who are you", "x@example.com"), True, True),
        (smtplib.SMTPServerDisconnected("gone"), False, True),
        (smtplib.SMTPNotSupportedError("no SMTPUTF8"), True, False),
        (TimeoutError("timed out"), False, True),
    ],
)
def test_other_failures_are_permanent_only_when_another_try_cannot_help(
    error: Exception, permanent: bool, hold: bool
) -> None:
    meant = as_send_error(error)
    assert (meant.permanent, meant.hold) == (permanent, hold)


def send_all(*messages: Outgoing, between: Any = None) -> None:
    async def send() -> None:
        transport = Transport()
        type_ = Email()
        try:
            await asyncio.gather(*(type_.send(message, transport) for message in messages))
            if between is not None:
                await asyncio.to_thread(between)
                await type_.send(messages[0], transport)
        finally:
            await transport.close()

    asyncio.run(send())


def test_many_mails_share_a_few_connections(mail_server: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    connect = smtplib.SMTP.connect

    def count(*args: Any, **options: Any) -> Any:
        opened.append(1)
        return connect(*args, **options)

    monkeypatch.setattr(smtplib.SMTP, "connect", count)
    send_all(*[MESSAGE] * 20)
    assert len(mail_server.mails) == 20
    assert 1 <= len(opened) <= THREADS


def test_a_server_that_hung_up_meanwhile_is_called_again(mail_server: SmtpSink) -> None:
    def restart() -> None:
        mail_server.stop()
        mail_server.start()

    send_all(MESSAGE, between=restart)
    assert len(mail_server.mails) == 2


def test_the_threads_end_with_the_transport(mail_server: SmtpSink) -> None:
    send_all(MESSAGE)
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("mail")])


def test_a_mail_that_cannot_be_made_is_not_tried_again(mail_server: SmtpSink) -> None:
    with pytest.raises(SendError) as error:
        sent(Email(), replace(MESSAGE, to=""))
    assert error.value.permanent
