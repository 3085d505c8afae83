"""Grafana Alerting's webhooks
(https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, Literal

from pydantic import Field

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.alertmanager import group_of_alerts
from events.sources.base import (
    Adapter,
    Call,
    TypeDoc,
    check_authorization,
    check_signature,
    check_time,
)
from project.durations import Duration


@adapters.register("grafana")
class Grafana(Adapter):
    """Alerts of Grafana, by a webhook contact point."""

    secret: ClassVar[str] = (
        "The HMAC signature's secret of the contact point (Grafana 12), or its Authorization credentials or password."
    )
    types: ClassVar[Mapping[str, TypeDoc]] = {
        "grafana.alert": TypeDoc(
            "A group of alerts began or ceased to fire.", group_of_alerts(title={"type": "string"})
        )
    }
    keeps: ClassVar[tuple[str, ...]] = ("x-grafana-",)

    by: Literal["signature", "bearer", "basic"] = Field(
        "signature", title="Known by", description="What the contact point sends: an HMAC signature, or Authorization."
    )
    signature_header: str = Field(
        "X-Grafana-Alerting-Signature", title="Signature header", description="As the contact point has it."
    )
    timestamp_header: str = Field(
        "", title="Timestamp header", description="As the contact point has it: then its time is signed, and checked."
    )
    tolerance: Duration = Field(
        timedelta(minutes=5), title="Tolerance", description="How far the signed time may be from now."
    )
    user: str = Field("", title="User name", description="Where it is known by basic.")

    def check(self) -> Iterable[tuple[str, str]]:
        if (self.by == "basic") != bool(self.user):
            yield "user", "is needed where it is known by basic, and only there"

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        if self.by != "signature":
            check_authorization(call, secrets, user=self.user)
            return
        signature, content = call.header(self.signature_header.lower()), call.body
        if self.timestamp_header:
            stamp = call.header(self.timestamp_header.lower())
            content = f"{stamp}:".encode(errors="replace") + content
        check_signature([signature], content, map(str.encode, secrets))
        if self.timestamp_header:
            check_time(stamp, call, self.tolerance)

    def translate(self, call: Call) -> list[Incoming]:
        return [Incoming("grafana.alert", call.object, subject=str(call.object["groupKey"]))]
