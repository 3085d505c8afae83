"""How events and dead letters are searched: what each field means, and which index leads to it."""

from __future__ import annotations

from typing import Final

from django.db.models import Q

from events.models import DeadLetter, Event, LetterState
from project import searching
from project.searching import Condition, Field, Search, among, choice


def _type(value: str) -> Condition:
    if not value.endswith("*"):
        return Condition([Q(type=value)], rank=3)  # event_by_type
    start = value[:-1]
    return among("type", Event, lambda stored: stored.startswith(start), Q(type__startswith=start), rank=3)


def _source(value: str) -> Condition:
    uri = f"/{value.strip('/')}"
    whole = Q(source=uri) | Q(source__startswith=f"{uri}/")
    # event_by_source
    return among("source", Event, lambda stored: f"{stored}/".startswith(f"{uri}/"), whole, rank=3)


ROUTED: Final = {
    "waiting": Condition([Q(due_at__isnull=False)], rank=2),  # event_due
    "routed": Condition([Q(due_at__isnull=True)]),
}

EVENTS = Search(
    Event,
    {
        "uid": Field("the uid that Carillon gave it", lambda value: Condition([Q(pk=searching.uid(value))], rank=0)),
        # an_event_counts_once
        "id": Field("the id that its producer gave it", lambda value: Condition([Q(event_id=value)], rank=0)),
        "type": Field("its type; a `*` at the end stands for the rest: `order.*`", _type),
        "source": Field("its source, and what is below that: `/shop`", _source),
        # event_by_subject
        "subject": Field("its whole subject", lambda value: Condition([Q(subject=value) & ~Q(subject="")], rank=1)),
        "state": Field("`waiting` to be routed, or `routed`", choice("state", ROUTED)),
    },
    words=("type", "event_id", "subject", "data"),
    in_words="the data, the type, the id and the subject",
    keys=("uid", "id", "subject"),
    example='type:order.* source:/shop subject:42 since:7d refund "ada@example.com"',
)

LETTER_STATES: Final = {state.value: Condition([Q(state=state)]) for state in LetterState}

# There are few of them: what no index has is looked at one by one.
LETTERS = Search(
    DeadLetter,
    {
        "uid": Field("its uid", lambda value: Condition([Q(pk=searching.uid(value))], rank=0)),
        "position": Field("what the broker knows it by", lambda value: Condition([Q(position=value)])),
        "source": Field("the name of the source that it came by", lambda value: Condition([Q(source=value)])),
        "state": Field(", ".join(f"`{state}`" for state in LETTER_STATES), choice("state", LETTER_STATES)),
    },
    words=("reason", "position"),
    in_words="the reason and the position",
    keys=("uid", "position", "source"),
    example='source:shop state:waiting since:7d "is not JSON"',
)
