"""RabbitMQ: messages to an exchange, or straight to a queue (https://www.rabbitmq.com/docs/publishers)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field
from yarl import URL

from notifications.channels import channel_types
from notifications.channels.base import Outgoing, Receipt, SendError
from notifications.channels.broker import CONNECT_SECONDS, Broker, filled
from notifications.channels.cloud_event import CloudEvent, Message
from project.brokers.rabbitmq import RabbitConnection
from project.link import Link
from project.transport import Transport

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection

HEARTBEAT: Final = 15  # seconds; a connection that is silent for two of them is dead
LONGEST_KEY: Final = 255  # bytes of a routing key


@channel_types.register("rabbitmq")
class RabbitMQ(Broker, RabbitConnection):
    """An exchange or a queue of RabbitMQ."""

    exchange: str = Field("", title="Exchange", description="Empty: the routing key is the name of a queue.")
    routing_key: str = Field(
        "",
        title="Routing key",
        description="{type} and {subject} stand for the event's: shop.{type}. Without an exchange, a queue's name.",
    )
    prefix: Literal["cloudEvents:", "cloudEvents_", "ce-"] = Field(
        "cloudEvents:",
        title="Header prefix",
        description="Before the names of attributes in binary mode. cloudEvents_ is for JMS, ce- for HTTP's.",
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if not self.exchange and not self.routing_key:
            yield "routing_key", "without an exchange it has to be the name of a queue"

    async def publish(self, event: CloudEvent, message: Message, outgoing: Outgoing, transport: Transport) -> Receipt:
        import aio_pika
        from aio_pika import exceptions

        key = filled(self.routing_key, event)
        if len(key.encode()) > LONGEST_KEY:
            raise self.refusal(f"the routing key has more than {LONGEST_KEY} bytes: {key}", permanent=True)
        sent = aio_pika.Message(
            message.body,
            content_type=message.content_type,
            headers={f"{self.prefix}{name}": value for name, value in message.attributes.items()},
            message_id=str(outgoing.uid),
            type=event.type if len(event.type.encode()) <= LONGEST_KEY else None,
            timestamp=outgoing.created_at,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )

        async def confirmed(line: _Line) -> None:
            # Mandatory, so that what no queue takes comes back instead of being dropped and confirmed.
            exchange = await line.channel.get_exchange(self.exchange, ensure=False)
            await exchange.publish(sent, key, mandatory=True)

        try:
            await transport.keep(self, lambda: _RabbitLink(self)).use(confirmed)
        except exceptions.PublishError as error:
            lost = f"no queue is bound for it: exchange {self.exchange or '(default)'}, routing key {key}"
            raise self.refusal(lost, hold="{" not in self.routing_key) from error
        except exceptions.DeliveryError as error:
            raise self.refusal(f"the broker refused it, as a full queue does: {error}") from error
        except exceptions.ChannelPreconditionFailed as error:  # larger than max_message_size
            raise self.refusal(error, permanent=True, hold=False) from error
        except exceptions.CONNECTION_EXCEPTIONS as error:
            raise self._trouble(error) from error
        return Receipt(response="confirmed by the broker")

    def _trouble(self, error: BaseException) -> SendError:
        from aio_pika import exceptions

        if isinstance(error, exceptions.AuthenticationError | exceptions.ProbableAuthenticationError):
            return self.refusal(f"the broker refuses the user: {error}")
        return self.refusal(error)


class _Line:
    def __init__(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        self.connection, self.channel = connection, channel


class _RabbitLink(Link[_Line]):
    """A connection with one AMQP channel, which the broker closes when something is wrong with what it was told."""

    def __init__(self, settings: RabbitMQ) -> None:
        super().__init__()
        self._settings = settings

    async def connect(self, lost: Callable[[], None]) -> _Line:
        import aio_pika

        url = URL(self._settings.url.get_secret_value())
        connection = await aio_pika.connect(
            url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT),
            ssl_context=self._settings.context(),
            timeout=CONNECT_SECONDS,
            client_properties={"connection_name": "carillon"},
        )
        try:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        except BaseException:
            await connection.close()
            raise
        return _Line(connection, channel)

    async def disconnect(self, connection: _Line) -> None:
        await connection.connection.close()

    def serves(self, connection: _Line) -> bool:
        return not (connection.connection.is_closed or connection.channel.is_closed)
