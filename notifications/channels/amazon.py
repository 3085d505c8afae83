"""What SQS and SNS have in common: calls with up to ten messages each, by a library that blocks."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, TypeAlias

from pydantic import Field

from notifications.channels.base import Outgoing, Receipt, SendError
from notifications.channels.broker import Broker
from notifications.channels.cloud_event import JSON, CloudEvent, Message, Mode
from notifications.channels.together import Together
from project.brokers.aws import AwsConnection
from project.transport import Transport

Entry: TypeAlias = dict[str, Any]  # of a call: the message with its Id

MOST: Final = 10  # messages in a call
ATTRIBUTES: Final = 10  # that a message may have
THREADS: Final = 4  # for each channel and process; one where the order counts

_NAME: Final = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,./:;<=>?@\[\\\]^_`{|}~-]{1,128}\Z")  # a group, or a deduplication id

# What a message is refused for, whoever sends it when.
_HOPELESS: Final = frozenset(
    {
        "InvalidMessageContents",
        "InvalidParameter",
        "InvalidParameterValue",
        "InvalidAttributeValue",
        "BatchRequestTooLong",
    }
)


class Amazon(Broker, AwsConnection):
    """The base of both."""

    service: ClassVar[str]
    largest: ClassVar[int]  # bytes of a message, and of all messages of a call

    mode: Mode = Field(
        "structured",
        title="Mode",
        description="structured: one JSON document with the event's attributes and data. binary: the data is the "
        "message, the attributes are message attributes (at most ten). data: only the data.",
    )

    def place(self) -> str:
        """The ARN or URL. One that ends in .fifo keeps the order of messages with the same subject."""
        raise TypeError(f"{type(self).__name__} does not override place")

    def call(self, client: Any, entries: Sequence[Entry]) -> Mapping[str, Any]:
        """Send the entries of one call. In a thread."""
        raise TypeError(f"{type(self).__name__} does not override call")

    @property
    def ordered(self) -> bool:
        return self.place().endswith(".fifo")

    async def publish(self, event: CloudEvent, message: Message, outgoing: Outgoing, transport: Transport) -> Receipt:
        from botocore.exceptions import BotoCoreError, ClientError

        entry, size = self._entry(event, message, outgoing)
        try:
            told = await transport.keep(self, lambda: Calls(self)).send(entry, size)
        except (ClientError, BotoCoreError, OSError, ValueError) as error:
            raise self._trouble(error) from error
        return Receipt(response=f"accepted as {told}")

    def entry(self, body: str, attributes: Mapping[str, Mapping[str, str]]) -> Entry:
        """The body and the attributes by the names that the service has for them."""
        raise TypeError(f"{type(self).__name__} does not override entry")

    def _entry(self, event: CloudEvent, message: Message, outgoing: Outgoing) -> tuple[Entry, int]:
        try:
            body = message.body.decode()
        except UnicodeDecodeError as error:
            raise self.refusal(
                "a message here is text, and the data is not: use the mode structured", permanent=True, hold=False
            ) from error
        named = {f"ce-{name}": value for name, value in message.attributes.items()}
        if message.content_type != JSON:
            named["content-type"] = message.content_type
        if len(named) > ATTRIBUTES:
            many = f"the event has {len(named)} attributes, and a message at most {ATTRIBUTES}: use the mode structured"
            raise self.refusal(many, permanent=True, hold=False)
        size = len(message.body) + sum(len(name) + len(value.encode()) + len("String") for name, value in named.items())
        if size > self.largest:
            raise self.refusal(f"the message has {size:,} bytes; at most {self.largest:,}", permanent=True, hold=False)
        entry = self.entry(body, {name: {"DataType": "String", "StringValue": value} for name, value in named.items()})
        entry["Id"] = outgoing.uid.hex
        if self.ordered:
            entry |= {"MessageGroupId": fitting(event.key), "MessageDeduplicationId": str(outgoing.uid)}
        return entry, size

    def _trouble(self, error: Exception) -> SendError:
        response = getattr(error, "response", None) or {}  # botocore leaves it None where no answer came
        code = str(response.get("Error", {}).get("Code", ""))
        message = response.get("Error", {}).get("Message") or error
        hopeless = code.rpartition(".")[2] in _HOPELESS
        return self.refusal(f"{code}: {message}" if code else error, permanent=hopeless, hold=not hopeless)


class Refused(OSError):
    """One message of a call was refused, the others may have been accepted."""

    def __init__(self, failed: Mapping[str, Any]) -> None:
        super().__init__(f"{failed.get('Code')}: {failed.get('Message', '')}")
        self.response = {"Error": failed}


class Calls:
    """A client in a pool of threads. One thread for a FIFO queue or topic: what it is sent stays in order."""

    def __init__(self, settings: Amazon) -> None:
        self._settings = settings
        self._client: Any = None
        threads = 1 if settings.ordered else THREADS
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=settings.service)
        self._together = Together(self._post, calls=threads, most=MOST, largest=settings.largest)

    async def send(self, entry: Entry, size: int) -> str:
        """The id that the service gave the message."""
        return await self._together.send(entry, size)

    def close(self) -> None:
        self._together.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _post(self, entries: Sequence[Entry]) -> Sequence[str | Exception]:
        told = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, entries)
        ids = {each["Id"]: str(each["MessageId"]) for each in told.get("Successful", ())}
        failed = {each["Id"]: each for each in told.get("Failed", ())}
        silent = {"Code": "no word of it in the answer"}
        names = [entry["Id"] for entry in entries]
        return [ids[name] if name in ids else Refused(failed.get(name, silent)) for name in names]

    def _call(self, entries: Sequence[Entry]) -> Mapping[str, Any]:
        if self._client is None:
            self._client = self._settings.client(self._settings.service, read_timeout=20, connections=THREADS)
        return self._settings.call(self._client, entries)


def fitting(key: str) -> str:
    """The key where it can be the name of a message group, else a name made from it.

    >>> fitting("order-7"), len(fitting("Grüße"))
    ('order-7', 64)
    """
    return key if _NAME.match(key) else hashlib.sha256(key.encode()).hexdigest()
