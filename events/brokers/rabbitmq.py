"""RabbitMQ, by AMQP 0-9-1 (https://www.rabbitmq.com/docs/consumers)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import Field

from events.brokers.base import Arrivals, Broker, Message, Reader, fingerprint, text_of
from events.sources import adapters
from project.brokers.rabbitmq import RabbitConnection
from project.identifiers import new_uid


@adapters.register("rabbitmq")
class RabbitMq(Broker, RabbitConnection):
    """A queue of RabbitMQ."""

    # The binding allows both; what is sent by JMS cannot have the colon.
    prefixes: ClassVar[tuple[str, ...]] = ("cloudevents:", "cloudevents_", "ce-", "ce_")

    queue: str = Field(
        title="Queue", description="Made where it is not there: durable and replicated (a quorum queue)."
    )
    exchange: str = Field(
        "", title="Exchange", description="Where there is one, the queue is bound to it; the exchange has to exist."
    )
    routing_keys: list[str] = Field(
        default_factory=list, title="Routing keys", description="What it is bound by, one a line: order.*"
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if self.routing_keys and not self.exchange:
            yield "routing_keys", "are of no use without an exchange"

    async def connect(self, identity: str) -> Reader:
        import aio_pika

        connection = await aio_pika.connect(
            self.url.get_secret_value(),
            ssl_context=self.context(),
            client_properties={"connection_name": identity},
            timeout=10,
        )
        try:
            await self._prepare(connection)
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=self.batch * 2)
            # aio-pika's own messages cost more than all the rest of consuming; these are what they are made of.
            under = await channel.get_underlay_channel()
            reader = RabbitReader(connection, channel, self.queue)
            channel.close_callbacks.add(reader.lost)
            connection.close_callbacks.add(reader.lost)
            await under.basic_consume(self.queue, reader.arrived, consumer_tag=identity)
        except BaseException:
            await connection.close()
            raise
        return reader

    async def _prepare(self, connection: Any) -> None:
        """The queue and what it is bound to, on a channel of its own: a refusal ends the channel."""
        from aio_pika.exceptions import ChannelNotFoundEntity

        try:
            async with connection.channel(publisher_confirms=False) as channel:
                await channel.declare_queue(self.queue, passive=True)
        except ChannelNotFoundEntity:
            async with connection.channel(publisher_confirms=False) as channel:
                await channel.declare_queue(self.queue, durable=True, arguments={"x-queue-type": "quorum"})
        if self.exchange:
            async with connection.channel(publisher_confirms=False) as channel:
                queue = await channel.declare_queue(self.queue, passive=True)
                for key in self.routing_keys or [""]:
                    await queue.bind(self.exchange, key)


class RabbitReader(Reader):
    def __init__(self, connection: Any, channel: Any, queue: str) -> None:
        self._connection, self._channel, self._queue = connection, channel, queue
        self._arrivals = Arrivals()

    async def receive(self, limit: int, wait: float) -> list[Message]:
        return await self._arrivals.take(limit, wait)

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        # All that came by this channel up to there: what came before was acknowledged before.
        under = await self._channel.get_underlay_channel()
        await under.basic_ack(messages[-1].ticket, multiple=True)

    async def lag(self) -> int | None:
        """With what was fetched ahead. Also finds out that the queue was deleted, which this client tells nobody."""
        queue = await self._channel.declare_queue(self._queue, passive=True)
        return int(queue.declaration_result.message_count or 0) + len(self._arrivals)

    async def close(self) -> None:
        await self._connection.close()

    def lost(self, _: Any, error: BaseException | None = None) -> None:
        self._arrivals.lose(error or ConnectionError("RabbitMQ closed the connection"))

    async def arrived(self, delivered: Any) -> None:
        properties = delivered.header.properties
        headers = {name.lower(): text_of(value) for name, value in (properties.headers or {}).items()}
        about = {
            "queue": self._queue,
            "exchange": delivered.exchange or "",
            "routing_key": delivered.routing_key or "",
            "id": properties.message_id or "",
            "redelivered": bool(delivered.redelivered),
            "delivery": str(new_uid()),
        }
        at = properties.timestamp
        self._arrivals.put(
            Message(
                bytes(delivered.body),
                properties.message_id or fingerprint(self._queue.encode(), delivered.body),
                headers,
                properties.content_type or "",
                about,
                at.replace(tzinfo=at.tzinfo or UTC) if isinstance(at, datetime) else None,
                delivered.delivery_tag,
            )
        )
