"""What the vendors publish: a secret, a body, and the signature that they say belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from events.sources import adapters
from events.sources.base import Call, Refused


@dataclass(frozen=True)
class Vector:
    """Where it is published stands above each."""

    adapter: str
    secret: str
    body: bytes
    headers: Mapping[str, str]
    at: int = 1767225600  # seconds since 1970
    settings: Mapping[str, Any] = field(default_factory=dict)


VECTORS: Final = {
    # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    "github": Vector(
        "github",
        "It's a Secret to Everybody",
        b"Hello, World!",
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
    ),
    # RFC 4231, test case 2
    "hmac by sha512": Vector(
        "hmac",
        "Jefe",
        b"what do ya want for nothing?",
        {
            "x-signature": "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a"
            "6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        },
        settings={"header": "X-Signature", "algorithm": "sha512", "type": "t"},
    ),
    # RFC 2202, test case 1 for SHA-1
    "hmac by sha1, the key in hex": Vector(
        "hmac",
        "0b" * 20,
        b"Hi There",
        {"x-signature": "b617318655057264e28bc0b6fb378c8ef146be00"},
        settings={"header": "X-Signature", "algorithm": "sha1", "secret_encoding": "hex", "type": "t"},
    ),
}


def verify(vector: Vector, body: bytes | None = None) -> None:
    adapter = adapters[vector.adapter].from_settings(vector.settings)
    at = datetime.fromtimestamp(vector.at, UTC)
    body = vector.body if body is None else body
    adapter.verify(Call(body=body, headers=vector.headers, query={}, at=at), [vector.secret])


@pytest.mark.parametrize("vector", VECTORS.values(), ids=list(VECTORS))
def test_a_published_signature_holds(vector: Vector) -> None:
    verify(vector)


@pytest.mark.parametrize("vector", VECTORS.values(), ids=list(VECTORS))
def test_it_holds_for_nothing_else(vector: Vector) -> None:
    with pytest.raises(Refused):
        verify(vector, vector.body + b" ")
    with pytest.raises(Refused):
        verify(vector, b"")
