"""Kafka, and what speaks its protocol (Redpanda, MSK, Event Hubs), through aiokafka."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

from pydantic import Field, SecretStr

from project.brokers.connection import Tls

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

C = TypeVar("C", "AIOKafkaConsumer", "AIOKafkaProducer")

ASK_WITHIN: Final = 5.0  # seconds
# What aiokafka 0.14 makes of a server's final SCRAM message that is an error (RFC 5802, section 7, "e=…"): a KeyError.
REFUSED: Final = "the cluster refuses the user"


class KafkaConnection(Tls):
    """A cluster, and who we are there."""

    library: ClassVar[str] = "aiokafka"

    servers: str = Field(
        title="Servers", description="host:port of one or more brokers, with commas between: kafka-1:9092,kafka-2:9092."
    )
    mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", title="SASL mechanism", description="How the user is told. Empty: without a user."
    )
    username: str = Field("", title="User", description="Who we are there. Empty: nobody in particular.")
    password: SecretStr | None = Field(None, title="Password", description="Keep it in a variable: ${KAFKA_PASSWORD}.")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        for server in self.servers.split(","):
            host, colon, port = server.strip().rpartition(":")
            if not (host and colon and port.isdecimal()):
                yield "servers", f'"{server}" must be host:port, like kafka-1:9092'
        if bool(self.mechanism) != bool(self.username and self.password):
            yield "mechanism", "a mechanism, a user and a password come together or not at all"

    def options(self) -> dict[str, Any]:
        """What aiokafka's consumers and producers take to connect."""
        protocol = ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        options: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.servers.split(",")],
            "security_protocol": protocol,
            "ssl_context": self.context(),
        }
        if self.mechanism and self.password:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password.get_secret_value(),
            }
        return options

    async def started(self, client: C) -> C:
        """The client, made of these `options`, once it has connected; one that cannot is stopped.

        Raises ConnectionError, which says why no server can be used, and what the client raises else.
        """
        from aiokafka.errors import KafkaConnectionError

        try:
            await client.start()
        except BaseException as error:
            await client.stop()
            if isinstance(error, KafkaConnectionError):
                raise ConnectionError(await self._why(error)) from error
            if isinstance(error, KeyError):
                raise ConnectionError(REFUSED) from error
            raise
        return client

    async def _why(self, error: Exception) -> str:
        """Why no server can be used. The client itself only logs it."""
        from aiokafka.conn import collect_hosts, create_conn
        from aiokafka.errors import KafkaError

        options = self.options()
        for host, port, _ in collect_hosts(options.pop("bootstrap_servers")):
            try:
                found = await create_conn(host, port, request_timeout_ms=int(ASK_WITHIN * 1000), **options)
            except (KafkaError, OSError) as reason:
                return f"{host}:{port}: {reason or type(reason).__name__}"
            except KeyError:
                return f"{host}:{port}: {REFUSED}"
            found.close()
        return str(error)
