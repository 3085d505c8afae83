"""Tickets to Flower: the admin's word, signed, for who somebody is and what they may do there. Good for seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from django.core import signing

SECONDS: Final = 60
"""From the admin's answer until the browser is at Flower."""
_SALT: Final = "carillon.flower"


@dataclass(frozen=True)
class Ticket:
    """Somebody who may look at Flower; `acts`: who may also revoke tasks and stop workers."""

    user: str
    acts: bool

    def __str__(self) -> str:
        return self.user


def write(ticket: Ticket, state: str) -> str:
    """The ticket as text, for the browser that Flower gave this state: nobody else can use it."""
    return signing.dumps({**asdict(ticket), "state": state}, salt=_SALT)


def read(text: str, state: str) -> Ticket | None:
    """The ticket; None when it is forged, too old, or another browser's."""
    try:
        told = signing.loads(text, salt=_SALT, max_age=SECONDS)
    except signing.BadSignature:
        return None
    return Ticket(told["user"], told["acts"]) if state and told["state"] == state else None
