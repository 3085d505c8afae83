"""Redis Streams: an entry for each message (https://redis.io/docs/latest/commands/xadd)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from pydantic import Field

from notifications.channels import channel_types
from notifications.channels.base import Outgoing, Receipt
from notifications.channels.broker import CONNECT_SECONDS, Broker
from notifications.channels.cloud_event import CloudEvent, Message
from notifications.channels.together import Together
from project.brokers.redis import RedisConnection
from project.transport import Transport

Fields: TypeAlias = dict[Any, Any]  # of an entry

MOST: Final = 100  # entries in a round trip
LARGEST: Final = 4 * 1024 * 1024  # bytes, likewise


@channel_types.register("redis")
class RedisStream(Broker, RedisConnection):
    """A stream of Redis or Valkey. An entry has the message as `data`, and the event's attributes as `ce-id` …"""

    stream: str = Field(title="Stream", min_length=1, description="The key of the stream: shop-events.")
    length: int = Field(
        100_000, ge=0, title="Length", description="About as many entries are kept; older ones go. 0: all are kept."
    )

    async def publish(self, event: CloudEvent, message: Message, outgoing: Outgoing, transport: Transport) -> Receipt:
        from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

        fields: Fields = {f"ce-{name}": value for name, value in message.attributes.items()}
        fields |= {"content-type": message.content_type, "data": message.body}
        try:
            told = await transport.keep(self, lambda: _Stream(self)).send(fields, len(message.body))
        except (AuthenticationError, NoPermissionError) as error:
            raise self.refusal(f"the server refuses the user: {error}") from error
        except (RedisError, OSError) as error:  # also: the key is no stream, no memory is left, it is a replica
            raise self.refusal(error) from error
        return Receipt(response=f"entry {told}")


class _Stream:
    """A connection on which entries go in the order in which they came, many in one round trip."""

    def __init__(self, settings: RedisStream) -> None:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._settings = settings
        self._client: Redis = Redis.from_url(
            settings.url.get_secret_value(),
            **settings.options(),
            max_connections=1,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 0),  # the delivery has its own schedule
        )
        self._together = Together(self._add, calls=1, most=MOST, largest=LARGEST)

    async def send(self, fields: Fields, size: int) -> str:
        """The id of the entry."""
        return await self._together.send(fields, size)

    async def close(self) -> None:
        self._together.stop()
        await self._client.aclose()

    async def _add(self, entries: Sequence[Fields]) -> Sequence[str | Exception]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for fields in entries:
                pipeline.xadd(self._settings.stream, fields, maxlen=self._settings.length or None, approximate=True)
            answers = await pipeline.execute(raise_on_error=False)
        return [answer if isinstance(answer, Exception) else _text(answer) for answer in answers]


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
