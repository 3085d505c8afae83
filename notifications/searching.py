"""How deliveries are searched. What the steps that sent them belong to is told by those who know steps."""

from __future__ import annotations

from typing import Final

from django.db.models import Q

from notifications.models import Channel, Delivery, DeliveryState, Recipient
from project import searching
from project.searching import Condition, Field, Search, choice, named


def _uid(value: str) -> Condition:
    uid = searching.uid(value)
    return Condition([Q(pk=uid), Q(origin=uid)], rank=0)  # one_delivery_per_step_channel_and_address


STATES: Final = {
    **{state.value: Condition([Q(state=state)]) for state in DeliveryState},
    DeliveryState.FAILED.value: Condition([Q(state=DeliveryState.FAILED)], rank=2),  # delivery_failed
    DeliveryState.SKIPPED.value: Condition([Q(state=DeliveryState.SKIPPED)], rank=2),  # delivery_not_sent
    DeliveryState.CANCELLED.value: Condition([Q(state=DeliveryState.CANCELLED)], rank=2),  # delivery_not_sent
    # delivery_due_by_lane: what is pending is due, now or later
    DeliveryState.PENDING.value: Condition([Q(state=DeliveryState.PENDING, due_at__isnull=False)], rank=2),
}

DELIVERIES = Search(
    Delivery,
    {
        "uid": Field("its uid, or that of the step that sent it", _uid),
        # delivery_by_address
        "to": Field("the whole address", lambda value: Condition([Q(to=value) & ~Q(to="")], rank=1)),
        # delivery_by_recipient
        "recipient": Field("the recipient", lambda value: Condition([Q(recipient=named(Recipient, value))], rank=1)),
        # delivery_by_channel
        "channel": Field("the channel", lambda value: Condition([Q(channel=named(Channel, value))], rank=3)),
        "template": Field("the template", lambda value: Condition([Q(template=value)])),
        # delivery_by_dedupe_key
        "key": Field(
            "the whole `dedupe_key`", lambda value: Condition([Q(dedupe_key=value) & ~Q(dedupe_key="")], rank=1)
        ),
        "state": Field(", ".join(f"`{state}`" for state in STATES), choice("state", STATES)),
    },
    words=("to", "template", "reason", "message"),
    in_words="the message, the address, the template and the reason why it was not sent",
    keys=("uid", "to", "recipient", "channel"),
    example='to:ada@example.com state:failed since:7d "out of stock"',
)
