"""Kafka: records to a topic, with the event's key, by the CloudEvents binding of Kafka."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from pydantic import Field

from notifications.channels import channel_types
from notifications.channels.base import Outgoing, Receipt
from notifications.channels.broker import Broker
from notifications.channels.cloud_event import CloudEvent, Message
from project.brokers.kafka import KafkaConnection
from project.link import Link
from project.transport import Transport

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

_TOPIC: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z")


@channel_types.register("kafka")
class Kafka(Broker, KafkaConnection):
    """A topic of Kafka. The key of a record is the event's partitionkey, else its subject, else its id."""

    topic: str = Field(title="Topic", description="It has to be there, or the cluster makes it: shop-events.")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if not _TOPIC.match(self.topic):
            yield "topic", "letters, digits, dots, dashes and underscores only, at most 249"

    async def publish(self, event: CloudEvent, message: Message, outgoing: Outgoing, transport: Transport) -> Receipt:
        from aiokafka import errors

        headers = [(f"ce_{name}", value.encode()) for name, value in message.attributes.items()]
        headers.append(("content-type", message.content_type.encode()))
        link = transport.keep((self, outgoing.timeout), lambda: _KafkaLink(self, outgoing.timeout))
        try:
            stored = await link.use(
                lambda producer: producer.send_and_wait(
                    self.topic, message.body, key=event.key.encode(), headers=headers
                )
            )
        except (errors.MessageSizeTooLargeError, errors.RecordTooLargeError, errors.RecordListTooLargeError) as error:
            raise self.refusal(error, permanent=True, hold=False) from error
        except errors.UnknownTopicOrPartitionError as error:
            raise self.refusal(f"the cluster has no topic {self.topic}") from error
        except (errors.KafkaError, OSError) as error:
            if type(error) in (errors.KafkaError, errors.ProducerClosed):
                link.drop()  # the producer's own end: it takes no more records
            raise self.refusal(error) from error
        return Receipt(response=f"partition {stored.partition}, offset {stored.offset}")


class _KafkaLink(Link["AIOKafkaProducer"]):
    """A producer, which looks after its connections to the brokers itself."""

    def __init__(self, settings: Kafka, timeout: float) -> None:
        super().__init__()
        self._settings, self._timeout = settings, timeout

    async def connect(self, lost: Callable[[], None]) -> AIOKafkaProducer:
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(
            **self._settings.options(),
            client_id="carillon",
            acks="all",
            # So that a record does not go out after its attempt was given up, and it can say why it did not.
            request_timeout_ms=int(700 * self._timeout),
        )
        return await self._settings.started(producer)

    async def disconnect(self, connection: AIOKafkaProducer) -> None:
        await connection.stop()
