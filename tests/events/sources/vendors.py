"""The vendors as they call: what they send, and how they prove that it is theirs.

The proofs are made by the vendors' own libraries where they sign, else by the few lines that the vendor documents;
never by the code that is tested.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

PAYLOADS: Final = Path(__file__).parent / "payloads"
EXAMPLES: Final = Path(__file__).parents[3] / "examples" / "payloads"

Headers = Mapping[str, str]
JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Vendor:
    """How one adapter's calls look. `prove` gets the body, a secret and the time, and returns the headers."""

    payload: Path
    prove: Callable[[bytes, str, datetime], Headers]
    proof: str  # the header without which nothing is proved
    type: str
    subject: str
    id: str = ""  # empty: a hash of the body
    wrong: Callable[[bytes, str, datetime], Headers] | None = None  # the same by another algorithm
    timed: bool = False  # a time is signed
    secret: str = "It's a Secret to Everybody"
    other_secret: str = "the one that comes next"
    settings: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""

    @property
    def body(self) -> bytes:
        return self.payload.read_bytes()


def hexdigest(secret: str, content: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), content, getattr(hashlib, algorithm)).hexdigest()


def github(body: bytes, secret: str, now: datetime) -> Headers:
    """https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries"""
    return {
        **JSON,
        "X-GitHub-Event": "workflow_run",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-Hub-Signature-256": f"sha256={hexdigest(secret, body)}",
    }


def github_sha1(body: bytes, secret: str, now: datetime) -> Headers:
    sha1 = hexdigest(secret, body, "sha1")
    return {**github(body, secret, now), "X-Hub-Signature": f"sha1={sha1}", "X-Hub-Signature-256": f"sha1={sha1}"}


def timed_hmac(body: bytes, secret: str, now: datetime) -> Headers:
    """A sender of one's own."""
    stamp = str(int(now.timestamp()))
    signature = hexdigest(secret, stamp.encode() + b"." + body, "sha512")
    return {**JSON, "X-Shop-Time": stamp, "X-Shop-Signature": f"v1={signature}", "X-Shop-Event": "paid"}


def timed_hmac_sha256(body: bytes, secret: str, now: datetime) -> Headers:
    right = timed_hmac(body, secret, now)
    signature = hexdigest(secret, right["X-Shop-Time"].encode() + b"." + body)
    return {**right, "X-Shop-Signature": f"v1={signature}"}


VENDORS: Final = {
    "github": Vendor(
        EXAMPLES / "github-workflow-run-failed.json",
        prove=github,
        proof="X-Hub-Signature-256",
        wrong=github_sha1,
        type="github.workflow_run",
        subject="octo-org/octo-repo",
        id="72d3162e-cc78-11e3-81ab-4c9367dc0958",
    ),
    "hmac": Vendor(
        EXAMPLES / "order-paid.json",
        prove=timed_hmac,
        proof="X-Shop-Signature",
        wrong=timed_hmac_sha256,
        timed=True,
        type="order.paid",
        subject="A-1001",
        id="order-A-1001",
        settings={
            "header": "X-Shop-Signature",
            "algorithm": "sha512",
            "prefix": "v1=",
            "signs": "{x-shop-time}.{body}",
            "timestamp_header": "X-Shop-Time",
            "type": "order.${{ headers['x-shop-event'] }}",
            "id": "order-${{ body.order_id }}",
            "subject": "${{ body.order_id }}",
        },
    ),
}
