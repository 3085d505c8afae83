"""AWS SQS (https://docs.aws.amazon.com/AWSSimpleQueueService/), also what SNS publishes to a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, ClassVar, Final

import orjson
from pydantic import Field

from events.brokers.base import Broker, Message, Reader, text_of
from events.sources import adapters
from project.brokers.aws import AwsCalls, AwsConnection
from project.durations import Duration

AT_ONCE: Final = 10  # messages in a call, by SQS
NOTIFICATION: Final = {"Type", "MessageId", "TopicArn", "Message"}  # what an envelope of SNS always has


@adapters.register("sqs")
class Sqs(Broker, AwsConnection):
    """A queue of AWS SQS, also of what SNS publishes to it."""

    prefixes: ClassVar[tuple[str, ...]] = ("ce-", "ce_", "cloudevents_", "cloudevents-")

    queue: str = Field(title="Queue URL", description="https://sqs.eu-west-1.amazonaws.com/123456789012/orders")
    visibility: Duration = Field(
        timedelta(minutes=2),
        title="Visibility timeout",
        description="How long a message may be in a dead process's hands; 12 h at most.",
    )

    async def connect(self, identity: str) -> Reader:
        calls = await self.calls("sqs", "AmazonSQS", self.queue, time_limit=SqsReader.patience + 15)
        reader = SqsReader(calls, self)
        try:
            await reader.lag()  # whether there is such a queue, and we may use it
        except BaseException:
            await reader.close()
            raise
        return reader


class SqsReader(Reader):
    patience: ClassVar[float] = 5.0  # every call is paid for, also one that brings nothing

    def __init__(self, calls: AwsCalls, settings: Sqs) -> None:
        self._calls, self._settings = calls, settings

    async def receive(self, limit: int, wait: float) -> list[Message]:
        """The first call waits. While all come back full, there may be more, for which twice as many ask at once."""
        found, calls = await self._receive(min(limit, AT_ONCE), int(wait)), 1
        while found and len(found) < limit and len(found) % AT_ONCE == 0:
            calls *= 2
            rest = range(len(found), limit, AT_ONCE)[:calls]
            several = await asyncio.gather(*(self._receive(min(AT_ONCE, limit - at), 0) for at in rest))
            if not any(several):
                break
            found += chain.from_iterable(several)
        return found

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        calls = (messages[at : at + AT_ONCE] for at in range(0, len(messages), AT_ONCE))
        await asyncio.gather(*map(self._delete, calls))

    async def lag(self) -> int | None:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        said = await self._call("GetQueueAttributes", AttributeNames=names)
        return sum(int(said["Attributes"].get(name, 0)) for name in names)

    async def close(self) -> None:
        await self._calls.close()

    async def _receive(self, most: int, wait: int) -> list[Message]:
        said = await self._call(
            "ReceiveMessage",
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            VisibilityTimeout=int(self._settings.visibility.total_seconds()),
            MessageAttributeNames=["All"],
            AttributeNames=["SentTimestamp", "MessageGroupId"],
        )
        return [_message(delivered) for delivered in said.get("Messages") or ()]

    async def _delete(self, messages: Sequence[Message]) -> None:
        entries = [{"Id": str(at), "ReceiptHandle": message.ticket} for at, message in enumerate(messages)]
        said = await self._call("DeleteMessageBatch", Entries=entries)
        if failed := said.get("Failed"):
            raise ConnectionError(f"SQS did not delete a message: {failed[0].get('Message') or failed[0].get('Code')}")

    async def _call(self, operation: str, **given: Any) -> dict[str, Any]:
        return await self._calls.call(operation, QueueUrl=self._settings.queue, **given)


def _message(delivered: Mapping[str, Any]) -> Message:
    attributes = delivered.get("Attributes", {})
    body, position = delivered["Body"], delivered["MessageId"]
    headers = _texts(delivered.get("MessageAttributes", {}), "StringValue", "BinaryValue")
    about = {"id": position, "group": attributes.get("MessageGroupId", "")}
    if (notification := _notification(body)) is not None:
        # Of the same notification SNS may make two messages.
        body, position = notification["Message"], notification["MessageId"]
        headers |= _texts(notification.get("MessageAttributes", {}), "Value")
        about |= {
            "id": position,
            "topic": notification["TopicArn"],
            "subject": notification.get("Subject") or "",
        }
    sent = attributes.get("SentTimestamp", "")
    return Message(
        text_of(body).encode(errors="replace"),
        position,
        headers,
        headers.get("content-type", ""),
        about,
        datetime.fromtimestamp(int(sent) / 1000, UTC) if sent.isdecimal() else None,
        delivered["ReceiptHandle"],
    )


def _notification(body: str) -> Mapping[str, Any] | None:
    """The envelope that SNS puts around a message, unless the subscription has raw message delivery."""
    if '"TopicArn"' not in body:
        return None
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    is_one = isinstance(found, dict) and found.keys() >= NOTIFICATION and found["Type"] == "Notification"
    return found if is_one and isinstance(found["Message"], str) and isinstance(found["MessageId"], str) else None


def _texts(attributes: Mapping[str, Mapping[str, Any]], *values: str) -> dict[str, str]:
    """Message attributes as headers."""
    return {
        name.lower(): text_of(next((given[value] for value in values if value in given), ""))
        for name, given in attributes.items()
    }
