"""NATS JetStream: messages to a subject that a stream stores (https://docs.nats.io/nats-concepts/jetstream)."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pydantic import Field

from notifications.channels import channel_types
from notifications.channels.base import Outgoing, Receipt
from notifications.channels.broker import CONNECT_SECONDS, Broker, filled
from notifications.channels.cloud_event import CloudEvent, Message
from project.brokers.nats import NatsConnection
from project.link import Link
from project.transport import Transport

if TYPE_CHECKING:
    from nats.aio.client import Client

# What a header may hold as it is, by the NATS binding (which follows HTTP's): visible ASCII but for " and %.
_PLAIN: Final = "".join(sorted(set(string.printable) - set(string.whitespace) - {'"', "%"}))
# What would end a token of a subject, or match many: a value may not move a message elsewhere.
_ONE_TOKEN: Final = str.maketrans(dict.fromkeys(" \t\r\n*>", "_"))


@channel_types.register("nats")
class Nats(Broker, NatsConnection):
    """A subject of NATS, which a stream of JetStream has to store."""

    subject: str = Field(
        title="Subject", description="{type} and {subject} stand for the event's: shop.{type}. A stream must store it."
    )
    stream: str = Field("", title="Stream", description="Which stream has to store it. Empty: any.")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if not self.subject or any(mark in self.subject for mark in " \t\r\n*>"):
            yield "subject", "must be one subject, without spaces, * and >: shop.events"

    async def publish(self, event: CloudEvent, message: Message, outgoing: Outgoing, transport: Transport) -> Receipt:
        from nats import errors
        from nats.js import errors as jetstream
        from nats.js.api import PubAck

        subject = filled(self.subject, event, _ONE_TOKEN)
        headers = {f"ce-{name}": quote(value, safe=_PLAIN) for name, value in message.attributes.items()}
        headers |= {"content-type": message.content_type, "Nats-Msg-Id": str(outgoing.uid)}

        link = transport.keep(self, lambda: _NatsLink(self))

        async def stored(client: Client) -> PubAck:
            return await client.jetstream().publish(
                subject, message.body, timeout=0.9 * outgoing.timeout, stream=self.stream or None, headers=headers
            )

        try:
            told = await link.use(stored)
        except jetstream.NoStreamResponseError as error:
            raise self.refusal(f"no stream stores the subject {subject}", hold="{" not in self.subject) from error
        except errors.MaxPayloadError as error:
            raise self.refusal(f"{len(message.body)} bytes: {error}", permanent=True, hold=False) from error
        except errors.TimeoutError as error:  # who may not publish hears of it besides, and gets no answer
            raise self.refusal(f"no stream has confirmed it. {link.said}".strip()) from error
        except (errors.Error, OSError) as error:
            raise self.refusal(error) from error
        return Receipt(response=f"message {told.seq} of the stream {told.stream}{_again(told.duplicate)}")


def _again(duplicate: bool | None) -> str:
    return ", which had it already" if duplicate else ""


class _NatsLink(Link["Client"]):
    def __init__(self, settings: Nats) -> None:
        super().__init__()
        self._settings = settings
        self.said = ""  # by the server, last, about something that went wrong

    async def connect(self, lost: Callable[[], None]) -> Client:
        from nats.errors import NoServersError

        async def keep_in_mind(error: Exception) -> None:
            self.said = str(error)

        async def closed() -> None:
            lost()

        self.said = ""
        try:
            # It would try again by itself, and have the messages wait inside it: deliveries do that better.
            return await self._settings.opened(
                name="carillon",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=int(CONNECT_SECONDS),
                ping_interval=15,
                error_cb=keep_in_mind,
                closed_cb=closed,
            )
        except NoServersError as error:
            raise ConnectionError(f"no server can be reached: {self.said or error}") from error

    async def disconnect(self, connection: Client) -> None:
        await connection.close()

    def serves(self, connection: Client) -> bool:
        return connection.is_connected
