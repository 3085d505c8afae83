"""Redis Streams, and what speaks Redis' protocol (Valkey, KeyDB, Dragonfly), through redis-py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from project.brokers.connection import Tls
from project.brokers.urls import problems_of


class RedisConnection(Tls):
    """A server, and a database there."""

    library: ClassVar[str] = "redis"

    url: SecretStr = Field(
        title="URL",
        description="redis://user:password@host:6379/0; rediss:// with TLS. Keep it in a variable: ${STREAMS_URL}.",
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        yield from problems_of("url", self.url.get_secret_value(), *(["rediss"] if self.tls else ["redis", "rediss"]))

    def options(self) -> dict[str, Any]:
        """What redis.Redis.from_url takes besides."""
        return {"ssl_ca_data": self.authority} if self.authority else {}
