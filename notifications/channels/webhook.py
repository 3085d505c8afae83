"""Webhook: signed HTTP calls by the Standard Webhooks specification (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Iterable
from typing import ClassVar

import orjson
from pydantic import Field, SecretStr, field_validator

from notifications.channels import channel_types
from notifications.channels.base import ChannelType, Outgoing, Receipt, post, url_problems
from project.standard_webhooks import SHORTEST, key_of, sign
from project.transport import Transport

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")  # a token of RFC 9110, 5.6.2
_OUR_HEADERS = {
    "content-type",
    "content-length",
    "host",
    "transfer-encoding",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
}


@channel_types.register("webhook")
class Webhook(ChannelType):
    """A program that wants to know: a POST with `{"type", "timestamp", "data"}`, signed."""

    parts: ClassVar[frozenset[str]] = frozenset({"data"})
    rotating: ClassVar[tuple[str, str] | None] = ("secret", "previous_secret")

    url: str = Field(title="URL", description="Called with POST for every message.")
    secret: SecretStr | None = Field(
        None,
        title="Signing secret",
        description="whsec_ and 24 to 64 random bytes in base64, known to the receiver. Empty: not signed.",
    )
    previous_secret: SecretStr | None = Field(
        None,
        title="Previous signing secret",
        description="While receivers change over to a new secret, every call is signed with both.",
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, title="More headers", description="Sent with every call, for example Authorization."
    )

    @field_validator("secret", "previous_secret")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        key_of(value.get_secret_value(), shortest=SHORTEST)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER_NAME.match(name):
                raise ValueError(f'"{name}" is not a header name')
            if name.lower() in _OUR_HEADERS:
                raise ValueError(f"{name} is set by Carillon itself")
            if not value.get_secret_value().isprintable():
                raise ValueError(f"the value of {name} must be one line of printable characters")
        return headers

    def check(self) -> Iterable[tuple[str, str]]:
        yield from url_problems("url", self.url)

    @classmethod
    def new_secret(cls) -> str:
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()

    async def send(self, outgoing: Outgoing, transport: Transport) -> Receipt:
        body = orjson.dumps({"type": outgoing.type, "timestamp": outgoing.created_at, "data": outgoing.data})
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        uid = str(outgoing.uid)
        headers |= {"Content-Type": "application/json", "webhook-id": uid}
        now = int(time.time())  # of this attempt: a receiver refuses what is older than minutes
        headers["webhook-timestamp"] = str(now)
        if valid := [secret.get_secret_value() for secret in (self.secret, self.previous_secret) if secret]:
            headers["webhook-signature"] = sign(valid, uid, now, body)
        return await post(transport, self.url, body, headers)
