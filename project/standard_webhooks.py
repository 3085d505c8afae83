"""Signatures by the Standard Webhooks specification (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

SHORTEST: Final = 24  # bytes of a secret, by the specification
LONGEST: Final = 64


@lru_cache(maxsize=256)  # of the secrets that are in use
def key_of(secret: str, *, shortest: int = 1) -> bytes:
    """The key that the secret means. Raises ValueError, which says how to make one.

    Others have made keys that are shorter than the specification wants, and these are theirs to choose.
    """
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not shortest <= len(key) <= LONGEST:
        raise ValueError(
            "must be whsec_ followed by 24 to 64 bytes in base64; make one with "
            "`python -c \"import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())\"`"
        )
    return key


def signed_content(message_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode(errors="replace") + body


def sign(secrets: Iterable[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,…` for each secret, separated by spaces."""
    signed = signed_content(message_id, str(timestamp), body)
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key_of(secret), signed, hashlib.sha256)).decode() for secret in secrets
    )
