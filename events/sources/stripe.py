"""Stripe (https://docs.stripe.com/webhooks)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, Final

from pydantic import Field

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import (
    Adapter,
    Call,
    Json,
    TypeDoc,
    check_signature,
    check_time,
    first_text,
    moment,
    with_fields,
)
from project.api import BadRequest
from project.durations import Duration

_SCHEMA: Final = with_fields(
    "id type created", id={"type": "string"}, type={"type": "string"}, created={"type": ["integer", "string"]}
)
_EVENTS: Final = {
    "charge.dispute.created": "A customer disputes a charge.",
    "charge.failed": "A charge failed.",
    "charge.refunded": "A charge was refunded, wholly or in part.",
    "charge.succeeded": "A charge succeeded.",
    "checkout.session.async_payment_failed": "A delayed payment of a checkout failed.",
    "checkout.session.async_payment_succeeded": "A delayed payment of a checkout succeeded.",
    "checkout.session.completed": "A checkout was completed.",
    "checkout.session.expired": "A checkout was not completed in time.",
    "customer.created": "A customer was made.",
    "customer.deleted": "A customer was deleted.",
    "customer.subscription.created": "A subscription began.",
    "customer.subscription.deleted": "A subscription ended.",
    "customer.subscription.trial_will_end": "A trial ends in three days.",
    "customer.subscription.updated": "A subscription changed.",
    "customer.updated": "A customer was changed.",
    "invoice.created": "An invoice was made.",
    "invoice.finalized": "An invoice was finalized.",
    "invoice.paid": "An invoice was paid.",
    "invoice.payment_action_required": "A customer has to confirm a payment.",
    "invoice.payment_failed": "An invoice could not be paid.",
    "invoice.upcoming": "A subscription will be invoiced soon.",
    "payment_intent.canceled": "A payment was cancelled.",
    "payment_intent.payment_failed": "A payment failed.",
    "payment_intent.succeeded": "A payment succeeded.",
    "payment_method.attached": "A customer was given a way to pay.",
    "payout.failed": "A payout failed.",
    "payout.paid": "A payout should have arrived.",
    "refund.created": "A refund was made.",
    "setup_intent.succeeded": "A way to pay was set up.",
}


@adapters.register("stripe")
class Stripe(Adapter):
    """Payments, invoices, subscriptions and the rest of Stripe's events."""

    secret: ClassVar[str] = "The endpoint's signing secret (whsec_…): Developers, Webhooks in Stripe's Dashboard."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        f"stripe.{name}": TypeDoc(description, _SCHEMA) for name, description in _EVENTS.items()
    }
    family: ClassVar[str] = "stripe."
    common: ClassVar[Json] = _SCHEMA
    keeps: ClassVar[tuple[str, ...]] = ("stripe-",)

    tolerance: Duration = Field(
        timedelta(minutes=5), title="Tolerance", description="How far the signed time may be from now."
    )

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        # t=1492774577,v1=5257a869e7ec…,v1=…,v0=…: one v1 for each secret that is valid; v0 is for tests.
        pairs = [part.strip().partition("=") for part in call.header("stripe-signature").split(",")]
        stamp = next((value for name, _, value in pairs if name == "t"), "")
        given = [value for name, _, value in pairs if name == "v1"]
        check_signature(given, f"{stamp}.".encode(errors="replace") + call.body, map(str.encode, secrets))
        check_time(stamp, call, self.tolerance)

    def translate(self, call: Call) -> list[Incoming]:
        data = call.object
        if not isinstance(data.get("type"), str):
            raise BadRequest("The body has no type.")
        subject = first_text(data, "data.object.id", "related_object.id")
        return [Incoming(f"stripe.{data['type']}", data, id=data["id"], subject=subject, time=moment(data["created"]))]
