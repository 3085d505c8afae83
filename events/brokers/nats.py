"""NATS JetStream, by a durable pull consumer (https://docs.nats.io/nats-concepts/jetstream/consumers)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal
from urllib.parse import unquote

from pydantic import Field

from events.brokers.base import Broker, Message, Reader, text_of
from events.sources import adapters
from project.brokers.nats import NatsConnection
from project.durations import Duration

IN_HAND: Final = 10  # batches that all consumers together may have received and not acknowledged


@adapters.register("nats")
class Nats(Broker, NatsConnection):
    """A stream of NATS JetStream, by a durable consumer."""

    prefixes: ClassVar[tuple[str, ...]] = ("ce-",)

    stream: str = Field(title="Stream", description="Its name. It has to exist.")
    filter: str = Field("", title="Subject filter", description="Only messages of these: orders.>. Empty: of all.")
    durable: str = Field(
        "carillon",
        title="Durable consumer",
        description="Made where it is not there. Processes that use the same share the messages.",
    )
    start: Literal["earliest", "latest"] = Field(
        "earliest", title="Start", description="Where a new consumer begins: with what is there, or with what comes."
    )
    redeliver_after: Duration = Field(
        timedelta(seconds=30),
        title="Redeliver after",
        description="How long a message may be in a dead process's hands; of a consumer that is made here.",
    )

    async def connect(self, identity: str) -> Reader:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        async def told(error: Exception) -> None:
            """What goes wrong is raised where something is asked for."""

        client = await self.opened(
            name=identity,
            connect_timeout=5,
            allow_reconnect=False,  # we do that, and say so
            max_reconnect_attempts=1,
            error_cb=told,
        )
        try:
            stream = client.jetstream(timeout=10)
            config = ConsumerConfig(
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=self.redeliver_after.total_seconds(),
                max_ack_pending=max(1000, self.batch * IN_HAND),
                deliver_policy=DeliverPolicy.ALL if self.start == "earliest" else DeliverPolicy.NEW,
            )
            subscription = await stream.pull_subscribe(
                self.filter, durable=self.durable, stream=self.stream, config=config
            )
        except BaseException:
            await client.close()
            raise
        return NatsReader(client, subscription)

    def attributes(self, message: Message) -> dict[str, str]:
        """By the binding their values are written as in HTTP."""
        return {name: unquote(value) for name, value in super().attributes(message).items()}


class NatsReader(Reader):
    def __init__(self, client: Any, subscription: Any) -> None:
        self._client, self._subscription = client, subscription

    async def receive(self, limit: int, wait: float) -> list[Message]:
        try:
            found = await self._subscription.fetch(limit, timeout=wait)
        except TimeoutError:
            if self._client.is_closed:
                raise ConnectionError("NATS closed the connection") from None
            return []
        return [_message(delivered) for delivered in found]

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await message.ticket.ack()
        await self._client.flush()  # they are on their way; else a crash would have them all come again

    async def lag(self) -> int | None:
        info = await self._subscription.consumer_info()
        return int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    async def close(self) -> None:
        await self._client.close()


def _message(delivered: Any) -> Message:
    headers = {name.lower(): text_of(value) for name, value in (delivered.headers or {}).items()}
    metadata = delivered.metadata
    sequence = metadata.sequence.stream
    # The time is part of it: a stream that is deleted and made again counts from 1 again.
    return Message(
        delivered.data,
        f"{metadata.stream}/{sequence}@{round(metadata.timestamp.timestamp() * 1000)}",
        headers,
        headers.get("content-type", ""),
        {"subject": delivered.subject, "stream": metadata.stream, "sequence": sequence},
        metadata.timestamp,
        delivered,
    )
