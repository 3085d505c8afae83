"""E-mail: through Django's mail backend (EMAIL_URL), over connections that are kept open."""

from __future__ import annotations

import asyncio
import smtplib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parseaddr
from typing import ClassVar, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.core.validators import validate_email
from pydantic import Field, field_validator

from notifications.channels import channel_types
from notifications.channels.base import ChannelType, Outgoing, Receipt, SendError
from project.transport import Transport

THREADS: Final = 4  # for each channel and process; each keeps one connection
STALE_AFTER: Final = 20.0  # seconds without use, after which a server may have hung up without a word


@channel_types.register("email")
class Email(ChannelType):
    """Mail, by SMTP or whatever EMAIL_URL names."""

    address: ClassVar[str | None] = "e-mail address"
    parts: ClassVar[frozenset[str]] = frozenset({"subject", "text", "html"})
    concurrency: ClassVar[int | None] = THREADS

    from_email: str = Field(
        "", title="From", description="Shop <shop@example.com>, or only the address. Empty: DEFAULT_FROM_EMAIL."
    )
    reply_to: str = Field("", title="Reply to", description="Where answers go. Empty: to the sender.")
    to: str = Field(
        "", title="To", description="Who gets what is sent to the channel itself (`channel:…`, or as a fallback)."
    )

    @field_validator("from_email", "reply_to")
    @classmethod
    def _is_a_mailbox(cls, value: str) -> str:
        if value:
            cls.check_address(parseaddr(value)[1])
            if not value.isprintable():
                raise ValueError("must be one line")
        return value

    @field_validator("to")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return cls.check_address(value) if value else value

    @classmethod
    def check_address(cls, address: str) -> str:
        try:
            validate_email(address)
        except ValidationError as error:
            raise ValueError(f'"{address}" is not an e-mail address') from error
        return address

    def own_address(self) -> str | None:
        return self.to or None

    async def send(self, outgoing: Outgoing, transport: Transport) -> Receipt:
        if not outgoing.to:
            raise SendError("there is no address to send it to", permanent=True, hold=False)
        pool = transport.keep(("email", outgoing.channel), MailPool)
        try:
            return await pool.post(self._message(outgoing))
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise as_send_error(error) from error

    def _message(self, outgoing: Outgoing) -> EmailMultiAlternatives:
        sender = self.from_email or settings.DEFAULT_FROM_EMAIL
        mail = EmailMultiAlternatives(
            outgoing.subject,
            outgoing.text,
            sender,
            [outgoing.to],
            reply_to=[self.reply_to] if self.reply_to else None,
            headers={
                # The same on every attempt, so that a mail that was sent twice can be known as one.
                "Message-ID": f"<{outgoing.uid}@{parseaddr(sender)[1].rpartition('@')[2]}>",
                "Auto-Submitted": "auto-generated",  # RFC 3834: no vacation replies, please
            },
        )
        if outgoing.html:
            mail.attach_alternative(outgoing.html, "text/html")
        return mail


class MailPool:
    """A few threads with one open connection each; Django's backends block, and opening costs more than sending."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mail")
        self._mine = threading.local()
        self._connections: list[_Connection] = []

    async def post(self, mail: EmailMultiAlternatives) -> Receipt:
        """Send it; raises what the backend raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._post, mail)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in self._connections:
            connection.hang_up()

    def _post(self, mail: EmailMultiAlternatives) -> Receipt:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = _Connection()
            self._connections.append(self._mine.connection)
        connection: _Connection = self._mine.connection
        return connection.post(mail)


class _Connection:
    """One thread's connection: opened when first needed, and again when it is stale or broken."""

    def __init__(self) -> None:
        self._backend: BaseEmailBackend | None = None
        self._used = 0.0

    def post(self, mail: EmailMultiAlternatives) -> Receipt:
        kept = self._backend is not None and time.monotonic() - self._used < STALE_AFTER
        try:
            return self._send(mail, fresh=not kept)
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            if not kept:
                raise
            return self._send(mail, fresh=True)  # the server hung up since the last mail; that is not this mail's fault

    def _send(self, mail: EmailMultiAlternatives, *, fresh: bool) -> Receipt:
        if fresh:
            self.close()
        backend = self._backend or get_connection()
        try:
            if fresh:
                backend.open()
            backend.send_messages([mail])
        except smtplib.SMTPRecipientsRefused:
            self._keep(backend)  # the server is well and waits for the next mail
            raise
        except BaseException:
            self._backend = backend
            self.close()
            raise
        self._keep(backend)
        if isinstance(getattr(backend, "connection", None), smtplib.SMTP):
            return Receipt(250, "accepted by the mail server")
        return Receipt(None, "accepted by the mail backend")

    def _keep(self, backend: BaseEmailBackend) -> None:
        self._backend, self._used = backend, time.monotonic()

    def close(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            with suppress(smtplib.SMTPException, OSError):
                backend.close()

    def hang_up(self) -> None:
        """Let go without a word to the server, which may be the reason why we have to."""
        socket = getattr(self._backend, "connection", None)
        if isinstance(socket, smtplib.SMTP):
            socket.close()


def as_send_error(error: Exception) -> SendError:
    """What a failed mail means: whether to try again, and whether other mails would fail as well."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, answer = next(iter(error.recipients.values()))
        return SendError(_words(code, answer), permanent=code >= 500, status=code, hold=False)
    if isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPConnectError | smtplib.SMTPHeloError):
        # Also with 5xx: a password that is wrong today is mended tomorrow, and the mail is still wanted.
        return SendError(_words(error.smtp_code, error.smtp_error), status=error.smtp_code)
    if isinstance(error, smtplib.SMTPResponseException):
        permanent = error.smtp_code >= 500
        return SendError(
            _words(error.smtp_code, error.smtp_error),
            permanent=permanent,
            status=error.smtp_code,
            hold=not permanent or isinstance(error, smtplib.SMTPSenderRefused),
        )
    permanent = isinstance(error, smtplib.SMTPNotSupportedError) or not isinstance(
        error, smtplib.SMTPException | OSError
    )
    return SendError(f"{type(error).__name__}: {error}", permanent=permanent)


def _words(code: int, answer: bytes | str) -> str:
    return f"{code} {answer.decode(errors='replace') if isinstance(answer, bytes) else answer}"
