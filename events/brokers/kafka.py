"""Kafka (https://kafka.apache.org/documentation/#consumerapi), and what speaks its protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

import structlog
from pydantic import Field

from events.brokers.base import Broker, Message, Reader, text_of
from events.sources import adapters
from project.brokers.kafka import KafkaConnection
from project.durations import Duration

log = structlog.get_logger(__name__)


@adapters.register("kafka")
class Kafka(Broker, KafkaConnection):
    """Topics of Kafka, or of what speaks its protocol (Redpanda, MSK, Event Hubs)."""

    prefixes: ClassVar[tuple[str, ...]] = ("ce_", "ce-")

    topics: list[str] = Field(title="Topics", description="Their names, one a line.", min_length=1)
    group: str = Field(
        "carillon", title="Consumer group", description="Its consumers share the partitions, and it keeps the place."
    )
    start: Literal["earliest", "latest"] = Field(
        "earliest", title="Start", description="Where a new group begins: with what is there, or with what comes."
    )

    session_timeout: Duration = Field(
        timedelta(seconds=10), title="Session timeout", description="How long a dead consumer keeps its partitions."
    )

    async def connect(self, identity: str) -> Reader:
        from aiokafka import AIOKafkaConsumer

        session = int(self.session_timeout.total_seconds() * 1000)
        consumer = AIOKafkaConsumer(
            *self.topics,
            **self.options(),
            client_id=identity,
            group_id=self.group,
            enable_auto_commit=False,  # the place moves when PostgreSQL has committed
            auto_offset_reset=self.start,
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 3,
            request_timeout_ms=15_000,
            fetch_max_wait_ms=500,
            fetch_max_bytes=8 * 1024 * 1024,
        )
        return KafkaReader(await self.started(consumer), self.topics)


class KafkaReader(Reader):
    def __init__(self, consumer: Any, topics: Sequence[str]) -> None:
        self._consumer, self._topics = consumer, topics

    async def receive(self, limit: int, wait: float) -> list[Message]:
        found = await self._consumer.getmany(timeout_ms=int(wait * 1000), max_records=limit)
        return [_message(record) for records in found.values() for record in records]

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Those of partitions that went to another consumer meanwhile are duplicates there."""
        from aiokafka.errors import CommitFailedError, IllegalStateError, RebalanceInProgressError

        ours = self._consumer.assignment()
        places: dict[Any, int] = {}
        for message in messages:
            partition, offset = message.ticket
            if partition in ours:
                places[partition] = offset + 1
        try:
            if places:
                await self._consumer.commit(places)
        except (CommitFailedError, IllegalStateError, RebalanceInProgressError) as error:
            log.info("partitions moved before they were acknowledged", error=str(error))

    async def lag(self) -> int | None:
        from aiokafka import TopicPartition

        partitions = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in self._consumer.partitions_for_topic(topic) or ()
        ]
        if not partitions:
            return 0
        ends: Mapping[Any, int] = await self._consumer.end_offsets(partitions)
        places = await asyncio.gather(*map(self._consumer.committed, partitions))
        return sum(max(0, ends[partition] - (place or 0)) for partition, place in zip(partitions, places, strict=True))

    async def close(self) -> None:
        await self._consumer.stop()


def _message(record: Any) -> Message:
    from aiokafka import TopicPartition

    headers = {name.lower(): text_of(value) for name, value in record.headers}
    about = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": None if record.key is None else text_of(record.key),
    }
    # The time is part of it: a topic that is deleted and made again counts from 0 again.
    return Message(
        record.value or b"",
        f"{record.topic}/{record.partition}/{record.offset}@{record.timestamp}",
        headers,
        headers.get("content-type", ""),
        about,
        datetime.fromtimestamp(record.timestamp / 1000, UTC) if record.timestamp >= 0 else None,
        (TopicPartition(record.topic, record.partition), record.offset),
    )
