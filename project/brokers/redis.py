"""Redis Streams, and what speaks Redis' protocol (Valkey, KeyDB, Dragonfly), through redis-py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field, SecretStr

from project.brokers.connection import Connection
from project.brokers.urls import problems_of


class RedisConnection(Connection):
    """A server, and a database there."""

    library: ClassVar[str] = "redis"

    url: SecretStr = Field(
        title="URL",
        description="redis://user:password@host:6379/0; rediss:// with TLS. Keep it in a variable: ${STREAMS_URL}.",
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        yield from problems_of("url", self.url.get_secret_value(), "redis", "rediss")
