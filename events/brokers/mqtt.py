"""MQTT 5 (https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html), by a session that outlives the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from pydantic import Field

from events.brokers.base import Arrivals, Broker, Message, Reader, fingerprint, text_of
from events.cloudevents import ATTRIBUTE
from events.sources import adapters
from project.brokers.mqtt import MqttConnection
from project.durations import Duration
from project.identifiers import new_uid

QOS: Final = 1  # at least once; what is published with 0 is delivered once or never
MOST_IN_HAND: Final = 65_535  # by the protocol
LONGEST_SESSION: Final = 2**32 - 2  # seconds; one more means for ever


@adapters.register("mqtt")
class Mqtt(Broker, MqttConnection):
    """Topics of an MQTT 5 broker."""

    topics: list[str] = Field(
        title="Topic filters", description="One a line: devices/+/alarm, devices/#.", min_length=1
    )
    group: str = Field(
        "",
        title="Group",
        description="Consumers of a group share the messages ($share/group/…). Empty: one takes them, others stand by.",
    )
    session_expiry: Duration = Field(
        timedelta(days=7),
        title="Session expiry",
        description="How long the broker keeps messages while nobody is there.",
    )

    @property
    def most(self) -> int:
        return super().most if self.group else 1  # each would get every message

    async def connect(self, identity: str) -> Reader:
        import aiomqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wishes: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = min(int(self.session_expiry.total_seconds()), LONGEST_SESSION)
        wishes.ReceiveMaximum = min(self.batch * 2, MOST_IN_HAND)  # so many at once until we acknowledge
        client = aiomqtt.Client(
            **self.options(),
            identifier=f"{self.group}-{identity}" if self.group else identity,
            clean_start=False,
            properties=wishes,
            keepalive=20,
            timeout=10,
        )
        # aiomqtt has no word for it. Without it paho acknowledges what it has only received.
        client._client.manual_ack_set(True)
        reader = MqttReader(client)
        await client.__aenter__()
        try:
            reader.listen()
            share = f"$share/{self.group}/" if self.group else ""
            answers: Any = await client.subscribe([(share + topic, QOS) for topic in self.topics])
            if refused := [topic for topic, answer in zip(self.topics, answers, strict=False) if answer.is_failure]:
                raise ConnectionError(f"the broker refuses to let us subscribe to {', '.join(refused)}")
        except BaseException:
            await reader.close()
            raise
        return reader

    def attributes(self, message: Message) -> dict[str, str]:
        """By the binding user properties are the attributes, by their own names."""
        if "specversion" not in message.headers:
            return {}
        return {name: value for name, value in message.headers.items() if ATTRIBUTE.match(name)}


class MqttReader(Reader):
    def __init__(self, client: Any) -> None:
        self._client, self._arrivals = client, Arrivals()
        self._listening: asyncio.Task[None] | None = None

    def listen(self) -> None:
        self._listening = asyncio.create_task(self._listen())

    async def receive(self, limit: int, wait: float) -> list[Message]:
        return await self._arrivals.take(limit, wait)

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        for message in messages:
            number, qos = message.ticket
            if failed := self._client._client.ack(number, qos):
                raise ConnectionError(f"MQTT could not acknowledge: {failed}")

    async def close(self) -> None:
        if self._listening:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
        await self._client.__aexit__(None, None, None)

    async def _listen(self) -> None:
        try:
            async for delivered in self._client.messages:
                self._arrivals.put(_message(delivered))
        except Exception as error:  # the connection is lost; whoever asks for messages is told
            self._arrivals.lose(error)


def _message(delivered: Any) -> Message:
    properties = delivered.properties
    headers = {name.lower(): text_of(value) for name, value in getattr(properties, "UserProperty", ())}
    topic = str(delivered.topic)
    body = bytes(delivered.payload or b"")
    # MQTT numbers nothing for longer than it is under way, so equal messages are one, unless the settings know better.
    return Message(
        body,
        f"{topic}/{fingerprint(topic.encode(), body)}",
        headers,
        getattr(properties, "ContentType", ""),
        {"topic": topic, "retained": bool(delivered.retain), "delivery": str(new_uid())},
        ticket=(delivered.mid, delivered.qos),
    )
