"""NATS with JetStream, through nats-py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field, SecretStr

from project.brokers.connection import Tls
from project.brokers.urls import problems_of

if TYPE_CHECKING:
    from nats.aio.client import Client


CLOSE_WITHIN: Final = 0.5  # seconds


class NatsConnection(Tls):
    """A cluster, and who we are there."""

    library: ClassVar[str] = "nats"

    url: str = Field(title="Servers", description="nats://host:4222, one or more with commas between; tls:// with TLS.")
    username: str = Field("", title="User", description="Who we are there. Empty: nobody in particular.")
    password: SecretStr | None = Field(None, title="Password", description="Keep it in a variable: ${NATS_PASSWORD}.")
    token: SecretStr | None = Field(None, title="Token", description="In place of user and password.")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        for url in self.servers:
            yield from problems_of("url", url, "nats", "tls")
        if self.token and (self.username or self.password):
            yield "token", "either a token, or a user and a password"

    @property
    def servers(self) -> list[str]:
        """The URL of each."""
        return [url.strip() for url in self.url.split(",")]

    @property
    def encrypted(self) -> bool:
        return self.tls or any(url.startswith("tls:") for url in self.servers)

    async def opened(self, **wishes: Any) -> Client:
        """A client, connected with `options()` and these. Raises what it raises, or ConnectionError without TLS."""
        from nats.aio.client import Client

        client = _encrypted() if self.encrypted else Client()
        try:
            await client.connect(**self.options(), **wishes)
        except BaseException:
            with suppress(TimeoutError):  # after a refused certificate it waits for ever for what is closed
                async with asyncio.timeout(CLOSE_WITHIN):
                    await client.close()
            raise
        return client

    def options(self) -> dict[str, Any]:
        """What a client's `connect` takes."""
        options: dict[str, Any] = {"servers": self.servers, "tls": self.context()}
        if self.token:
            options["token"] = self.token.get_secret_value()
        if self.username:
            options |= {"user": self.username, "password": self.password.get_secret_value() if self.password else ""}
        return options


def _encrypted() -> Client:
    """A client that insists on TLS: nats-py leaves that to the server's first line, which anybody could write."""
    from nats.aio.client import Client

    class Encrypted(Client):
        async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
            if not info.get("tls_required"):
                raise ConnectionError("the server does not ask for TLS")  # before it is told a password
            await super()._process_info(info, initial_connection)

    return Encrypted()
