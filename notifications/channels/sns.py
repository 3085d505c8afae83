"""Amazon SNS: messages to a topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from notifications.channels import channel_types
from notifications.channels.amazon import Amazon, Entry


@channel_types.register("sns")
class Sns(Amazon):
    """A topic of SNS. In a FIFO topic messages with the same subject are a group, and repetitions are dropped."""

    service: ClassVar[str] = "sns"
    largest: ClassVar[int] = 256 * 1024

    topic: str = Field(title="Topic ARN", description="arn:aws:sns:eu-central-1:123456789012:shop-events")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if not self.topic.startswith("arn:") or self.topic.count(":") < 5:
            yield "topic", "must be an ARN: arn:aws:sns:REGION:ACCOUNT:NAME"

    def place(self) -> str:
        return self.topic

    def entry(self, body: str, attributes: Mapping[str, Mapping[str, str]]) -> Entry:
        return {"Message": body, "MessageAttributes": attributes}

    def call(self, client: Any, entries: Sequence[Entry]) -> Mapping[str, Any]:
        told: Mapping[str, Any] = client.publish_batch(TopicArn=self.topic, PublishBatchRequestEntries=entries)
        return told
