"""AWS SQS (https://docs.aws.amazon.com/AWSSimpleQueueService/), also what SNS publishes to a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

import orjson
from pydantic import Field

from events.brokers.base import Broker, Message, Reader, text_of
from events.sources import adapters
from project.brokers.aws import AwsConnection
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
        client = await asyncio.to_thread(self.client, "sqs", read_timeout=SqsReader.patience + 15, connections=AT_ONCE)
        reader = SqsReader(client, self)
        await reader.lag()  # whether there is such a queue, and we may use it
        return reader


class SqsReader(Reader):
    patience: ClassVar[float] = 5.0  # every call is paid for, also one that brings nothing

    def __init__(self, client: Any, settings: Sqs) -> None:
        self._client, self._settings = client, settings

    async def receive(self, limit: int, wait: float) -> list[Message]:
        """The first call waits; where it came back full, there may be more, for which none waits."""
        found = await self._call(min(limit, AT_ONCE), int(wait))
        while len(found) < limit and len(found) % AT_ONCE == 0 and found:
            more = await self._call(min(limit - len(found), AT_ONCE), 0)
            if not more:
                break
            found += more
        return found

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        calls = (messages[at : at + AT_ONCE] for at in range(0, len(messages), AT_ONCE))
        await asyncio.gather(*map(self._delete, calls))

    async def lag(self) -> int | None:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        said = await asyncio.to_thread(
            self._client.get_queue_attributes, QueueUrl=self._settings.queue, AttributeNames=names
        )
        return sum(int(said["Attributes"].get(name, 0)) for name in names)

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)

    async def _call(self, most: int, wait: int) -> list[Message]:
        said = await asyncio.to_thread(
            self._client.receive_message,
            QueueUrl=self._settings.queue,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            VisibilityTimeout=int(self._settings.visibility.total_seconds()),
            MessageAttributeNames=["All"],
            AttributeNames=["SentTimestamp", "MessageGroupId"],
        )
        return [_message(delivered) for delivered in said.get("Messages", ())]

    async def _delete(self, messages: Sequence[Message]) -> None:
        entries = [{"Id": str(at), "ReceiptHandle": message.ticket} for at, message in enumerate(messages)]
        said = await asyncio.to_thread(
            self._client.delete_message_batch, QueueUrl=self._settings.queue, Entries=entries
        )
        if failed := said.get("Failed"):
            raise ConnectionError(f"SQS did not delete a message: {failed[0].get('Message') or failed[0].get('Code')}")


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
