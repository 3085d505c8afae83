"""Standard Webhooks (https://www.standardwebhooks.com): what Svix and many others send."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, check_signature, check_time, first_text, moment
from project.durations import Duration
from project.standard_webhooks import key_of, signed_content


@adapters.register("standard")
class Standard(Adapter):
    """Anybody who signs by Standard Webhooks: Svix and its customers, or another Carillon."""

    secret: ClassVar[str] = "The endpoint's signing secret, which begins with whsec_."
    keeps: ClassVar[tuple[str, ...]] = ("webhook-", "svix-")

    prefix: str = Field(
        "",
        title="Prefix of types",
        description="Put before the sender's type: acme. makes invoice.paid acme.invoice.paid.",
    )
    subject: str = Field(
        "", title="Subject", description="The field of the data that says what it is about: order.id. Empty: none."
    )
    tolerance: Duration = Field(
        timedelta(minutes=5), title="Tolerance", description="How far the signed time may be from now."
    )

    def check_secret(self, secret: str) -> None:
        key_of(secret)

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        check_standard(call, secrets, self.tolerance, "svix" if "svix-id" in call.headers else "webhook")

    def translate(self, call: Call) -> list[Incoming]:
        data: Any = call.object
        kind, at = first_text(data, "type"), moment(data.get("timestamp"))
        if "data" in data:  # the form that the specification recommends; others put all beside the type
            data = data["data"]
        delivery = call.headers.get("webhook-id") or call.headers.get("svix-id", "")
        subject = first_text(data, self.subject) if self.subject else ""
        return [Incoming(self.prefix + kind, data, id=delivery, subject=subject, time=at)]


def check_standard(call: Call, secrets: Sequence[str], tolerance: timedelta, name: str = "webhook") -> None:
    """Raise Refused unless the headers `webhook-…` (or of another name) sign the call by one of the secrets."""
    given = call.header(f"{name}-signature").split()
    stamp = call.header(f"{name}-timestamp")
    check_signature(
        [part.removeprefix("v1,") for part in given if part.startswith("v1,")],
        signed_content(call.header(f"{name}-id"), stamp, call.body),
        map(key_of, secrets),
        encode=lambda signature: base64.b64encode(signature).decode(),
    )
    check_time(stamp, call, tolerance)
