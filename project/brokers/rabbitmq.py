"""RabbitMQ by AMQP 0-9-1, through aio-pika."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field, SecretStr

from project.brokers.connection import Tls
from project.brokers.urls import problems_of


class RabbitConnection(Tls):
    """A broker and a virtual host there."""

    library: ClassVar[str] = "aio_pika"

    url: SecretStr = Field(
        title="URL",
        description="amqp://user:password@host:5672/vhost; amqps:// with TLS. Keep it in a variable: ${RABBITMQ_URL}.",
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        yield from problems_of("url", self.url.get_secret_value(), *(["amqps"] if self.tls else ["amqp", "amqps"]))
