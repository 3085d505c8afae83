"""Amazon SQS: messages to a queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from notifications.channels import channel_types
from notifications.channels.amazon import Amazon, Entry
from project.brokers.urls import problems_of


@channel_types.register("sqs")
class Sqs(Amazon):
    """A queue of SQS. In a FIFO queue messages with the same subject are a group, and repetitions are dropped."""

    service: ClassVar[str] = "sqs"
    largest: ClassVar[int] = 1024 * 1024

    queue: str = Field(title="Queue URL", description="https://sqs.eu-central-1.amazonaws.com/123456789012/shop-events")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        yield from problems_of("queue", self.queue, "https", "http")

    def place(self) -> str:
        return self.queue

    def entry(self, body: str, attributes: Mapping[str, Mapping[str, str]]) -> Entry:
        return {"MessageBody": body, "MessageAttributes": attributes}

    def call(self, client: Any, entries: Sequence[Entry]) -> Mapping[str, Any]:
        told: Mapping[str, Any] = client.send_message_batch(QueueUrl=self.queue, Entries=entries)
        return told
