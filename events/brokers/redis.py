"""Redis Streams (https://redis.io/docs/latest/develop/data-types/streams/), and Valkey's."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import orjson
from pydantic import Field

from events.brokers.base import Broker, Message, Reader, text_of
from events.sources import adapters
from project.brokers.redis import RedisConnection
from project.durations import Duration

FORGOTTEN_AFTER: Final = 86_400_000  # milliseconds without a sign of life after which an empty consumer is removed


@adapters.register("redis")
class Redis(Broker, RedisConnection):
    """Streams of Redis or Valkey, by a consumer group."""

    streams: list[str] = Field(title="Streams", description="Their keys, one a line.", min_length=1)
    group: str = Field(
        "carillon", title="Consumer group", description="Made where it is not there. Its consumers share the entries."
    )
    start: Literal["earliest", "latest"] = Field(
        "earliest", title="Start", description="Where a new group begins: with what is there, or with what comes."
    )
    content: str = Field(
        "data",
        title="Content field",
        description="The field of an entry that is the message; the others are its headers. An entry without it is "
        "itself the message: an object of its fields.",
    )
    claim_after: Duration = Field(
        timedelta(minutes=1), title="Claim after", description="How long an entry may be in a dead consumer's hands."
    )

    async def connect(self, identity: str) -> Reader:
        import redis.asyncio
        from redis.exceptions import ResponseError

        client = redis.asyncio.Redis.from_url(
            self.url.get_secret_value(),
            **self.options(),
            socket_connect_timeout=5,
            socket_timeout=10,
            health_check_interval=15,
        )
        try:
            for stream in self.streams:
                try:
                    await client.xgroup_create(
                        stream, self.group, id="0" if self.start == "earliest" else "$", mkstream=True
                    )
                except ResponseError as error:
                    if "BUSYGROUP" not in str(error):
                        raise
        except BaseException:
            await client.aclose()
            raise
        return RedisReader(client, self, identity)


class RedisReader(Reader):
    def __init__(self, client: Any, settings: Redis, identity: str) -> None:
        self._client, self._settings, self._identity = client, settings, identity
        # First what this consumer, or the one whose place it took, had read and not acknowledged.
        self._own = dict.fromkeys(settings.streams, "0")
        self._claim_at = 0.0

    async def receive(self, limit: int, wait: float) -> list[Message]:
        if self._own and (found := await self._left(limit)):
            return found
        if time.monotonic() >= self._claim_at:
            if found := await self._claimed(limit):
                return found
            self._claim_at = time.monotonic() + self._settings.claim_after.total_seconds() / 4
        new = dict.fromkeys(self._settings.streams, ">")
        return await self._read(new, count=limit, block=max(1, int(wait * 1000)))

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        ids = defaultdict(list)
        for message in messages:
            stream, entry = message.ticket
            ids[stream].append(entry)
        for stream, entries in ids.items():
            await self._client.xack(stream, self._settings.group, *entries)

    async def lag(self) -> int | None:
        """Of servers before Redis 7 only what has been read and not been acknowledged."""
        waiting = 0
        for stream in self._settings.streams:
            for group in await self._client.xinfo_groups(stream):
                if text_of(group["name"]) == self._settings.group:
                    waiting += int(group["pending"]) + int(group.get("lag") or 0)
        return waiting

    async def close(self) -> None:
        await self._client.aclose()

    async def _left(self, limit: int) -> list[Message]:
        found = await self._read(self._own, count=limit)
        # It is acknowledged before the next look, so each look begins at the beginning.
        if not found:
            self._own = {}
        return found

    async def _claimed(self, limit: int) -> list[Message]:
        """What consumers left that have not been heard of for `claim_after`."""
        idle = int(self._settings.claim_after.total_seconds() * 1000)
        for stream in self._settings.streams:
            await self._forget_consumers(stream)
            found = await self._client.xautoclaim(
                stream, self._settings.group, self._identity, min_idle_time=idle, count=limit
            )
            if messages := self._messages([(stream.encode(), found[1])]):
                return messages
        return []

    async def _forget_consumers(self, stream: str) -> None:
        """Remove those that are long gone and have nothing in hand: with them their entries would be lost."""
        for consumer in await self._client.xinfo_consumers(stream, self._settings.group):
            if consumer["pending"] == 0 and consumer["idle"] > FORGOTTEN_AFTER:
                await self._client.xgroup_delconsumer(stream, self._settings.group, consumer["name"])

    async def _read(self, streams: dict[str, str], **options: Any) -> list[Message]:
        group, identity = self._settings.group, self._identity
        answer = await self._client.xreadgroup(group, identity, streams, **options)
        return self._messages(answer.items() if isinstance(answer, dict) else answer or ())

    def _messages(self, answer: Any) -> list[Message]:
        return [
            self._message(stream.decode(), entry, fields)
            for stream, entries in answer
            for entry, fields in _flat(entries)
            if fields  # else it was deleted meanwhile
        ]

    def _message(self, stream: str, entry: bytes, fields: dict[bytes, bytes]) -> Message:
        headers = {text_of(name).lower(): text_of(value) for name, value in fields.items()}
        body = fields.get(self._settings.content.encode())
        headers.pop(self._settings.content.lower(), None)
        if body is None and not any(name.startswith(Redis.prefixes) for name in headers):
            body = orjson.dumps({text_of(name): text_of(value) for name, value in fields.items()})
        number = entry.decode()
        return Message(
            body or b"",
            f"{stream}/{number}",
            headers,
            headers.get("content-type", ""),
            {"stream": stream, "id": number},
            datetime.fromtimestamp(int(number.partition("-")[0]) / 1000, UTC),
            (stream, entry),
        )


def _flat(entries: Any) -> Any:
    """redis-py's answers in RESP 3 hold one list more than those in RESP 2."""
    return entries[0] if entries and isinstance(entries[0], list) else entries
