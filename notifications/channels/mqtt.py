"""MQTT 5: messages to a topic, each acknowledged (QoS 1), by the CloudEvents binding of MQTT."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import Field

from notifications.channels import channel_types
from notifications.channels.base import Outgoing, Receipt
from notifications.channels.broker import CONNECT_SECONDS, Broker, filled
from notifications.channels.cloud_event import CloudEvent, Message
from project.brokers.mqtt import MqttConnection
from project.link import Link
from project.transport import Transport

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

KEEPALIVE: Final = 15  # seconds
TOO_LARGE: Final = 0x95  # the reason code "Packet too large"
LONGEST_TOPIC: Final = 65_535  # bytes
# What would match many topics, or open another level: a value may not move a message elsewhere.
_ONE_LEVEL: Final = str.maketrans(dict.fromkeys("+#/\0", "_"))


@channel_types.register("mqtt")
class Mqtt(Broker, MqttConnection):
    """A topic of an MQTT 5 broker."""

    topic: str = Field(title="Topic", description="{type} and {subject} stand for the event's: shop/{type}.")
    retain: bool = Field(False, title="Retain", description="The broker keeps the last message for who comes later.")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if not self.topic or any(mark in self.topic for mark in "+#\0"):
            yield "topic", "must be one topic, without + and #: shop/events"

    async def publish(self, event: CloudEvent, message: Message, outgoing: Outgoing, transport: Transport) -> Receipt:
        from aiomqtt import MqttError

        topic = filled(self.topic, event, _ONE_LEVEL)
        if len(topic.encode()) > LONGEST_TOPIC:
            raise self.refusal(f"the topic has more than {LONGEST_TOPIC} bytes", permanent=True, hold=False)

        async def acknowledged(line: _Line) -> ReasonCode:
            return await line.publish(topic, message.body, self.retain, _properties(message))

        try:
            answer = await transport.keep(self, lambda: _MqttLink(self)).use(acknowledged)
        except (MqttError, OSError) as error:
            raise self.refusal(error) from error
        except ValueError as error:  # paho's word on what cannot be a packet
            raise self.refusal(error, permanent=True, hold=False) from error
        if answer.is_failure:
            large = answer.value == TOO_LARGE
            raise self.refusal(f"the broker refused it: {answer}", permanent=large, hold=not large)
        return Receipt(response=f"acknowledged: {answer}")


def _properties(message: Message) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = message.content_type
    properties.PayloadFormatIndicator = 1 if _is_text(message.body) else 0
    if message.attributes:
        properties.UserProperty = list(message.attributes.items())
    return properties


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Line(Protocol):
    """A connection that tells how the broker answered; aiomqtt's own takes any answer for a yes."""

    watch: asyncio.Task[None]

    async def publish(self, topic: str, body: bytes, retain: bool, properties: Properties) -> ReasonCode: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class _MqttLink(Link[_Line]):
    def __init__(self, settings: Mqtt) -> None:
        super().__init__()
        self._settings = settings

    async def connect(self, lost: Callable[[], None]) -> _Line:
        client: _Line = _answering()(**self._settings.options(), timeout=CONNECT_SECONDS, keepalive=KEEPALIVE)
        try:
            await client.open()
        except BaseException:
            await client.close()
            raise
        client.watch = asyncio.ensure_future(_until_lost(client, lost))
        return client

    async def disconnect(self, connection: _Line) -> None:
        connection.watch.cancel()
        await connection.close()


async def _until_lost(client: Any, lost: Callable[[], None]) -> None:
    """Nothing is subscribed to, so nothing comes: the iteration ends with the connection."""
    from aiomqtt import MqttError

    try:
        async for _ in client.messages:
            pass
    except MqttError:
        lost()


@cache
def _answering() -> Any:
    """The class of such connections, made where the library is first needed."""
    from aiomqtt import Client, MqttCodeError, MqttError
    from paho.mqtt.client import MQTT_ERR_SUCCESS

    class Answering(Client):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._answers: dict[int, asyncio.Future[ReasonCode]] = {}
            self._largest: int | None = None  # packet that the broker takes

        async def publish(self, topic: str, body: bytes, retain: bool, properties: Properties) -> ReasonCode:  # type: ignore[override]
            size = len(topic.encode()) + len(body) + len(properties.pack())  # type: ignore[no-untyped-call]
            if self._largest is not None and size > self._largest:
                raise ValueError(f"the message has {size:,} bytes, and the broker takes packets of {self._largest:,}")
            sent = self._client.publish(topic, body, 1, retain, properties)
            if sent.rc != MQTT_ERR_SUCCESS:
                raise MqttCodeError(sent.rc, "not sent")
            answer: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
            self._answers[sent.mid] = answer
            try:
                return await answer
            finally:
                del self._answers[sent.mid]

        def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
            self._largest = getattr(properties, "MaximumPacketSize", None)
            super()._on_connect(client, userdata, flags, reason_code, properties)

        def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any) -> None:
            answer = self._answers.get(mid)
            if answer is not None and not answer.done():
                answer.set_result(reason_code)

        async def open(self) -> None:
            await self.__aenter__()

        async def close(self) -> None:
            with suppress(MqttError):
                await self.__aexit__(None, None, None)

    return Answering
