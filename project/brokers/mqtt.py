"""MQTT 5, through aiomqtt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from project.brokers.connection import Tls


class MqttConnection(Tls):
    """A broker (Mosquitto, EMQX, HiveMQ, VerneMQ), and who we are there."""

    library: ClassVar[str] = "aiomqtt"

    host: str = Field(title="Host", description="Name or address of the broker.")
    port: int = Field(1883, ge=1, le=65535, title="Port", description="Usually 1883; 8883 with TLS.")
    username: str = Field("", title="User", description="Who we are there. Empty: nobody in particular.")
    password: SecretStr | None = Field(None, title="Password", description="Keep it in a variable: ${MQTT_PASSWORD}.")

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if "/" in self.host or ":" in self.host:
            yield "host", "a name or an address alone: mqtt.example.com"

    def options(self) -> dict[str, Any]:
        """What aiomqtt.Client takes to connect."""
        import aiomqtt

        return {
            "hostname": self.host,
            "port": self.port,
            "username": self.username or None,
            "password": self.password.get_secret_value() if self.password else None,
            "tls_context": self.context(),
            "protocol": aiomqtt.ProtocolVersion.V5,
        }
