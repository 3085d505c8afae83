"""NATS with JetStream, through nats-py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from project.brokers.connection import Tls
from project.brokers.urls import problems_of


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

    def options(self) -> dict[str, Any]:
        """What nats.connect takes."""
        options: dict[str, Any] = {"servers": self.servers, "tls": self.context()}
        if self.token:
            options["token"] = self.token.get_secret_value()
        if self.username:
            options |= {"user": self.username, "password": self.password.get_secret_value() if self.password else ""}
        return options
