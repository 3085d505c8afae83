"""The base of all channel types, and its manual.

A channel type is one module of this package: a class whose fields are a channel's settings and whose `send` sends one
message. Nothing else has to know it: the admin's form, the API, `apply` and the sender find it by its name.

    @channel_types.register("ntfy")
    class Ntfy(ChannelType):
        '''Push notifications by ntfy (https://docs.ntfy.sh/publish/).'''

        address: ClassVar[str | None] = "topic"             # to: ["ntfy:alerts"]

        url: str = Field("https://ntfy.sh", title="Server", description="Where ntfy runs.")
        token: SecretStr | None = Field(None, title="Access token", description="For protected topics.")

        def check(self) -> Iterable[tuple[str, str]]:
            yield from url_problems("url", self.url)

        async def send(self, outgoing: Outgoing, transport: Transport) -> Receipt:
            headers = {"X-Title": outgoing.subject}
            if self.token:
                headers["Authorization"] = f"Bearer {self.token.get_secret_value()}"
            return await post(transport, f"{self.url}/{outgoing.to}", outgoing.text.encode(), headers)

The fields are the settings. Titles and descriptions are the form's labels and help texts. `SecretStr` hides a value
from forms, logs and error messages. Unknown settings are refused. `${NAME}` has been replaced when the class is filled.

`send` is called in the sender's event loop, many at a time: it awaits, and never blocks (a blocking library belongs in
a pool of threads, see email.py). It has `outgoing.timeout` seconds and is cancelled after that. It may be called again
for the same message, in this process or another: pass `outgoing.uid` on as an idempotency key where the far side takes
one. It returns a Receipt when the far side has accepted the message, and raises SendError when it has not; any other
exception counts as a SendError worth another try, and is logged, because it is a mistake in the type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID

import aiohttp

from project import http
from project.plugin import Plugin
from project.retry import parse_retry_after
from project.transport import Transport

RETRIED_STATUSES = frozenset({408, 409, 425, 429})
"""Answers below 500 that mean "not now": another try may succeed."""

ENDPOINT_STATUSES = frozenset({401, 403, 404, 405, 410})
"""Refusals that any message would meet: the trouble is the endpoint's or the settings', not the message's."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way to one address."""

    uid: UUID  # of the delivery: the same on every attempt
    channel: str  # the channel's name
    to: str  # empty where the channel itself knows where to go
    type: str  # what it is about: the event's type, or the template's name
    created_at: datetime
    attempt: int
    timeout: float  # seconds
    subject: str = ""  # one line
    text: str = ""
    html: str = ""
    data: Any = None  # JSON, for receivers that are programs
    event: Mapping[str, Any] = field(default_factory=dict)  # CloudEvents attributes, for receivers that take events


@dataclass(frozen=True, slots=True)
class Receipt:
    """The far side has accepted the message: its status (HTTP, SMTP) where it has one, and the words it used."""

    status: int | None = None
    response: str = ""


class SendError(Exception):
    """The message was not accepted; it is recorded with the attempt, so the text is for a person.

    `permanent`: another try cannot help. `retry_after`: no earlier than that. `hold`: the channel is in trouble, not
    only this message; it counts towards holding the whole channel back, and with `retry_after` holds it back at once.
    When left out, it is true for what is worth another try.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        status: int | None = None,
        retry_after: timedelta | None = None,
        hold: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.status = status
        self.retry_after = retry_after
        self.hold = not permanent if hold is None else hold


class ChannelType(Plugin):
    """One way to reach people. Subclasses declare their settings as fields and override `send`."""

    address: ClassVar[str | None] = None
    """What `to` is called for this type ("e-mail address"); None: a channel of this type knows itself where to go."""

    parts: ClassVar[frozenset[str]] = frozenset({"subject", "text"})
    """What of a message this type sends, of subject, text, html, data and event. Only these are made. One that sends
    the event can be published to (broker.py)."""

    rotating: ClassVar[tuple[str, str] | None] = None
    """The settings that hold the secret both sides know, and the one before it, which stays valid while the far side
    changes over; `new_secret` makes one. None: this type has no secret that is ours to make."""

    concurrency: ClassVar[int | None] = None
    """How many `send`s of one channel a process may have under way, where that is less than the channel's own limit."""

    @classmethod
    def check_address(cls, address: str) -> str:
        """The address in its usual form; ValueError when it cannot be one. Types with addresses override it."""
        return address

    @classmethod
    def new_secret(cls) -> str:
        """A secret for the first of `rotating`. Types that rotate override it."""
        raise TypeError(f"{cls.__name__} does not override new_secret")

    def own_address(self) -> str | None:
        """Where messages to the channel itself go ("" when `send` needs no address); None when it has no such place."""
        return "" if self.address is None else None

    async def send(self, outgoing: Outgoing, transport: Transport) -> Receipt:
        """Send it; raise SendError when it was not accepted."""
        raise TypeError(f"{type(self).__name__} does not override send")


def url_problems(field: str, url: str) -> Iterable[tuple[str, str]]:
    """For `check`: whether the URL of this field can be called, as far as that is known before it is called."""
    try:
        http.check_url(url)
    except ValueError as error:
        yield field, str(error)


async def post(transport: Transport, url: str, body: bytes, headers: Mapping[str, str]) -> Receipt:
    """POST the body; 2xx is a receipt.

    Raises SendError: worth another try are a failed connection, a redirect, 5xx and RETRIED_STATUSES, with the time
    that `Retry-After` asks for; an inner address and every other answer are permanent.
    """
    try:
        reply = await http.send(transport.http, "POST", url, body=body, headers=headers)
    except http.AddressRefused as error:
        raise SendError(str(error), permanent=True, hold=True) from error
    except aiohttp.InvalidURL as error:  # its text is the whole URL, which may be a secret
        raise SendError("the channel's URL is not one", permanent=True, hold=True) from error
    except (aiohttp.ClientError, OSError) as error:
        raise SendError(str(error) or type(error).__name__) from error
    if reply.status < HTTPStatus.MULTIPLE_CHOICES:
        return Receipt(reply.status, reply.text)
    redirected = reply.status < HTTPStatus.BAD_REQUEST
    permanent = (
        not redirected and reply.status < HTTPStatus.INTERNAL_SERVER_ERROR and reply.status not in RETRIED_STATUSES
    )
    raise SendError(
        f"a redirect to {reply.headers.get('Location')}, which is not followed" if redirected else reply.text,
        permanent=permanent,
        status=reply.status,
        retry_after=parse_retry_after(reply.headers.get("Retry-After"), now=datetime.now(UTC)),
        hold=not permanent or reply.status in ENDPOINT_STATUSES,
    )
