"""Where broker channels publish to: places made and read by the vendors' own clients, not by the code under test."""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

from tests.brokers.counterparts import PASSWORD, USER, Counterpart, Nats, Sqs, counterpart

PATIENCE = 10.0  # seconds until a message has to be there


@dataclass
class Got:
    """A message as it was read: the attributes of a CloudEvent, its data, and what the broker keeps with it."""

    data: Any
    attributes: dict[str, Any] = field(default_factory=dict)
    key: str = ""  # what the broker orders it by
    uid: str = ""  # what the broker knows a repetition by
    structured: bool = False


class FarSide(ABC):
    """A broker, reached by its proxy. A `place` on it is a queue, a topic, a stream, a subject."""

    kind: ClassVar[str]
    adapter: ClassVar[str] = ""  # the counterpart's, where that is another word
    locked: ClassVar[bool] = False
    drops: ClassVar[bool] = False  # repetitions
    limited: ClassVar[bool] = True  # what an event may have is too large for it
    connections: ClassVar[int] = 1  # that many sends at a time share
    broker: Counterpart

    def __init__(self, directory: Path) -> None:
        """`directory`: where the session's brokers are kept. Raises Absent."""
        self.directory = directory
        self.broker = counterpart(self.adapter or self.kind, directory, locked=self.locked)
        self.proxy, self.port = self.broker.proxy, self.broker.proxy.target

    def close(self) -> None:  # noqa: B027  most hold nothing
        """What it holds besides the broker, which goes on."""

    def prepare(self, place: str) -> None:
        """Make the place."""
        self.broker.prepare(place)

    @abstractmethod
    def settings(self, place: str) -> dict[str, Any]:
        """Of a channel that publishes there."""

    @abstractmethod
    def nowhere(self, place: str) -> tuple[dict[str, Any], str]:
        """Settings that lead nowhere, and what has to be said about that."""

    @contextmanager
    def refusing(self, place: str) -> Iterator[dict[str, Any]]:
        """Settings with a password that is wrong: wr0ng-secret."""
        yield {**self.settings(place), "password": "wr0ng-secret"}

    @abstractmethod
    def read(self, place: str, count: int) -> list[Got]:
        """So many messages, or what there is after PATIENCE."""


def of_structured(body: bytes | str) -> Got:
    document = json.loads(body)
    data = document.pop("data", None)
    return Got(data, document, structured=True)


def of_headers(headers: Mapping[str, str], content_type: str, body: bytes | str, prefix: str = "ce-") -> Got:
    """A CloudEvent in either mode, or data alone, as a receiver who knows the bindings reads it."""
    if content_type.startswith("application/cloudevents+json"):
        return of_structured(body)
    named = {name.removeprefix(prefix): value for name, value in headers.items() if name.startswith(prefix)}
    return Got(json.loads(body), named)


def until(count: int, some: Callable[[], list[Got]]) -> list[Got]:
    """Ask again and again until there are so many."""
    deadline, got = time.monotonic() + PATIENCE, list[Got]()
    while len(got) < count and time.monotonic() < deadline:
        got += some()
    return got


def by_sdk(event: Any) -> dict[str, Any]:
    """The attributes that the SDK of CloudEvents has read."""
    return {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in event.get_attributes().items()
    }


class RabbitMqSide(FarSide):
    kind = "rabbitmq"
    limited = False

    def prepare(self, place: str) -> None:
        with self._channel() as channel:
            channel.queue_declare(place, durable=True, auto_delete=False, arguments={"x-expires": 120_000})

    def settings(self, place: str) -> dict[str, Any]:
        return {"url": f"amqp://guest:guest@127.0.0.1:{self.proxy.port}/", "routing_key": place}

    def nowhere(self, place: str) -> tuple[dict[str, Any], str]:
        return {**self.settings(place), "routing_key": "nobody-home"}, "no queue is bound for it"

    @contextmanager
    def refusing(self, place: str) -> Iterator[dict[str, Any]]:
        yield {**self.settings(place), "url": f"amqp://guest:wr0ng-secret@127.0.0.1:{self.proxy.port}/"}

    def read(self, place: str, count: int) -> list[Got]:
        from cloudevents.core.bindings import amqp

        def some() -> list[Got]:
            message = channel.basic_get(place, no_ack=True)
            if message is None:
                time.sleep(0.02)
                return []
            body = message.body if isinstance(message.body, bytes) else message.body.encode()
            assert message.properties["delivery_mode"] == 2
            content_type = message.properties["content_type"]
            headers = message.properties.get("application_headers") or {}
            if "cloudEvents:id" in headers or content_type.startswith("application/cloudevents"):
                event = amqp.from_amqp_event(amqp.AMQPMessage({"content-type": content_type}, headers, body))
                got = Got(event.get_data(), by_sdk(event), structured=not headers)
            else:
                got = Got(json.loads(body))
            got.uid = message.properties["message_id"]
            return [got]

        with self._channel() as channel:
            return until(count, some)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        import amqp

        with amqp.Connection(f"127.0.0.1:{self.port}", userid="guest", password="guest") as connection:
            yield connection.channel()


class RedisSide(FarSide):
    kind = "redis"
    limited = False

    def settings(self, place: str) -> dict[str, Any]:
        return {"url": f"redis://127.0.0.1:{self.proxy.port}/0", "stream": place}

    def nowhere(self, place: str) -> tuple[dict[str, Any], str]:
        import redis

        with redis.Redis(port=self.port) as client:
            client.set("no-stream", "x")
        return {**self.settings(place), "stream": "no-stream"}, "WRONGTYPE"

    @contextmanager
    def refusing(self, place: str) -> Iterator[dict[str, Any]]:
        yield {**self.settings(place), "url": f"redis://nobody:wr0ng-secret@127.0.0.1:{self.proxy.port}/0"}

    def read(self, place: str, count: int) -> list[Got]:
        import redis

        with redis.Redis(port=self.port, decode_responses=True) as client:
            deadline = time.monotonic() + PATIENCE
            while client.xlen(place) < count and time.monotonic() < deadline:
                time.sleep(0.02)
            entries: Any = client.xrange(place)
        return [of_headers(fields, fields["content-type"], fields["data"]) for _, fields in entries]


class KafkaSide(FarSide):
    kind = "kafka"
    connections = 2  # a client asks on one, and sends on the other

    def settings(self, place: str) -> dict[str, Any]:
        return {"servers": f"127.0.0.1:{self.proxy.port}", "topic": place}

    def nowhere(self, place: str) -> tuple[dict[str, Any], str]:
        pytest.skip("the broker that stands in for Kafka (tansu) makes every topic that somebody asks for")

    @contextmanager
    def refusing(self, place: str) -> Iterator[dict[str, Any]]:
        port = counterpart("kafka", self.directory, locked=True).proxy.port
        who = {"mechanism": "SCRAM-SHA-256", "username": USER, "password": "wr0ng-secret"}
        yield {**self.settings(place), "servers": f"127.0.0.1:{port}", **who}

    def read(self, place: str, count: int) -> list[Got]:
        return asyncio.run(self._read(place, count))

    async def _read(self, place: str, count: int) -> list[Got]:
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(
            place, bootstrap_servers=f"127.0.0.1:{self.proxy.port}", auto_offset_reset="earliest", group_id=None
        )
        await consumer.start()
        try:
            got: list[Got] = []
            deadline = time.monotonic() + PATIENCE
            while len(got) < count and time.monotonic() < deadline:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    got += map(_of_record, records)
            return got
        finally:
            await consumer.stop()


def _of_record(record: Any) -> Got:
    from cloudevents.core.bindings import kafka

    headers = dict(record.headers)
    structured = headers["content-type"].startswith(b"application/cloudevents")
    if structured or "ce_id" in headers:
        event = kafka.from_kafka_event(kafka.KafkaMessage(headers, record.key, record.value))
        attributes = by_sdk(event)
        attributes.pop("partitionkey")  # the SDK makes it of the key
        got = Got(event.get_data(), attributes, structured=structured)
    else:
        got = Got(json.loads(record.value))
    got.key = record.key.decode()
    return got


class NatsSide(FarSide):
    kind = "nats"
    locked = True
    drops = True
    broker: Nats

    def settings(self, place: str) -> dict[str, Any]:
        url = f"nats://127.0.0.1:{self.proxy.port}"
        return {"url": url, "username": USER, "password": PASSWORD, "subject": f"{place}.{{type}}"}

    def nowhere(self, place: str) -> tuple[dict[str, Any], str]:
        return {**self.settings(place), "subject": "nobody.home"}, "no stream stores the subject nobody.home"

    def read(self, place: str, count: int) -> list[Got]:
        return asyncio.run(self._read(place, count))

    async def _read(self, place: str, count: int) -> list[Got]:
        client = await self.broker.client()
        try:
            subscription = await client.jetstream().pull_subscribe(f"{place}.>", stream=place)
            got: list[Got] = []
            deadline = time.monotonic() + PATIENCE
            while len(got) < count and time.monotonic() < deadline:
                for message in await subscription.fetch(count - len(got), timeout=PATIENCE):
                    await message.ack()
                    headers = {name: unquote(value) for name, value in message.headers.items()}
                    one = of_headers(headers, message.headers["content-type"], message.data)
                    one.uid = message.headers["Nats-Msg-Id"]
                    got.append(one)
            return got
        finally:
            await client.close()


class MqttSide(FarSide):
    """Without a subscriber a message is nobody's: one listens from the beginning."""

    kind = "mqtt"
    locked = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._got: dict[str, list[Got]] = {}
        self._listeners: list[Any] = []

    def close(self) -> None:
        for listener in self._listeners:
            listener.disconnect()
            listener.loop_stop()

    def prepare(self, place: str) -> None:
        from paho.mqtt.client import Client as Paho
        from paho.mqtt.client import MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        got = self._got[place] = []
        listener = Paho(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        listener.username_pw_set(USER, PASSWORD)
        subscribed: list[Any] = []
        listener.on_subscribe = lambda *told: subscribed.append(told)
        listener.on_message = lambda client, userdata, message: got.append(_of_mqtt(message))
        listener.connect("127.0.0.1", self.port)
        listener.loop_start()
        deadline = time.monotonic() + PATIENCE
        while not listener.is_connected() and time.monotonic() < deadline:
            time.sleep(0.01)
        listener.subscribe(f"{place}/#", qos=1)
        while not subscribed and time.monotonic() < deadline:
            time.sleep(0.01)
        self._listeners.append(listener)

    def settings(self, place: str) -> dict[str, Any]:
        where = {"host": "127.0.0.1", "port": self.proxy.port, "username": USER, "password": PASSWORD}
        return {**where, "topic": f"{place}/{{type}}"}

    def nowhere(self, place: str) -> tuple[dict[str, Any], str]:
        return {**self.settings(place), "topic": "forbidden/place"}, "Not authorized"

    def read(self, place: str, count: int) -> list[Got]:
        deadline = time.monotonic() + PATIENCE
        while len(self._got[place]) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return list(self._got[place])


def _of_mqtt(message: Any) -> Got:
    named = dict(getattr(message.properties, "UserProperty", ()))
    return of_headers(named, message.properties.ContentType, message.payload, prefix="")


class AmazonSide(FarSide):
    """SQS. Each message's group and deduplication id are kept, so the queues are FIFO ones."""

    kind = "sqs"
    drops = True
    connections = 4
    broker: Sqs

    def prepare(self, place: str) -> None:
        self.broker.client("sqs").create_queue(QueueName=f"{place}.fifo", Attributes={"FifoQueue": "true"})

    def settings(self, place: str) -> dict[str, Any]:
        return {**self.broker.access(), "queue": self.broker.url_of(f"{place}.fifo")}

    def nowhere(self, place: str) -> tuple[dict[str, Any], str]:
        queue = self.broker.url_of("no-such-queue.fifo")
        return {**self.settings(place), "queue": queue}, "NonExistentQueue"

    @contextmanager
    def refusing(self, place: str) -> Iterator[dict[str, Any]]:
        self._authenticate(0)  # Moto lets everybody in until it is told to look
        try:
            yield {**self.settings(place), "secret_key": "wr0ng-secret"}
        finally:
            self._authenticate(1_000_000)

    def _authenticate(self, after: int) -> None:
        import requests

        url = f"http://127.0.0.1:{self.port}/moto-api/reset-auth"
        assert requests.post(url, data=str(after), timeout=10).status_code == 200

    def read(self, place: str, count: int) -> list[Got]:
        client, url = self.broker.client("sqs"), self.broker.url_of(f"{place}.fifo")

        def some() -> list[Got]:
            asked = client.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
            )
            found = asked.get("Messages", [])
            for each in found:
                client.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
            if not found:
                time.sleep(0.05)
            return [self.of_message(each) for each in found]

        return until(count, some)

    def of_message(self, message: Mapping[str, Any]) -> Got:
        named = {name: each["StringValue"] for name, each in message.get("MessageAttributes", {}).items()}
        body = message["Body"]
        got = of_headers(named, "", body) if "ce-id" in named or '"specversion"' not in body else of_structured(body)
        got.key = message["Attributes"]["MessageGroupId"]
        got.uid = message["Attributes"]["MessageDeduplicationId"]
        return got


class SnsSide(AmazonSide):
    """SNS, read by a queue that is subscribed to the topic, raw."""

    kind = "sns"
    adapter = "sqs"

    def prepare(self, place: str) -> None:
        super().prepare(place)
        client = self.broker.client("sns")
        topic = client.create_topic(Name=f"{place}.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
        client.subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:eu-west-1:123456789012:{place}.fifo",
            Attributes={"RawMessageDelivery": "true"},
        )

    def settings(self, place: str) -> dict[str, Any]:
        return {**self.broker.access(), "topic": f"arn:aws:sns:eu-west-1:123456789012:{place}.fifo"}

    def nowhere(self, place: str) -> tuple[dict[str, Any], str]:
        return {**self.settings(place), "topic": "arn:aws:sns:eu-west-1:123456789012:none.fifo"}, "does not exist"


SIDES: dict[str, type[FarSide]] = {
    each.kind: each for each in (KafkaSide, RabbitMqSide, NatsSide, MqttSide, RedisSide, AmazonSide, SnsSide)
}
