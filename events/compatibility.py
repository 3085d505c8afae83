"""What a new schema of an event type would break: stored events that it refuses, and fields that somebody reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

from events.listeners import Listeners, Reading
from events.models import Event, EventType
from events.review import Survey, survey
from events.schemas import Validator
from events.shape import OPEN, Field, field
from project.faults import Fault

Json: TypeAlias = Any

DAYS: Final = 7  # of stored events that saving looks at
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
PINNED: Final = "pinned"  # they name a version in `dataschema`, so a new one does not concern them
FAULTS: Final = 3  # that are told of an event


class Trial:
    """A schema tried on stored events of a type. Raises SchemaError when it is none."""

    def __init__(self, type_: str, schema: Json) -> None:
        self.types = [type_]
        self._validator = Validator(schema)

    def labels(self, event: Event) -> Iterator[str]:
        if event.dataschema:
            yield PINNED
        else:
            yield ACCEPTED if self._validator.accepts(event.data) else REFUSED

    def tell_all(self, uids: Iterable[UUID]) -> list[tuple[Event, list[Fault]]]:
        """These events, newest first, each with what is wrong with it."""
        events = Event.objects.filter(pk__in=uids).defer("verdicts", "error").order_by("-uid")
        return [(event, self._validator.faults(event.data, "data")[:FAULTS]) for event in events]


@dataclass(frozen=True)
class Break:
    """A field that is read, and what the new schema does to it."""

    reading: Reading
    what: str

    @property
    def name(self) -> str:
        return ".".join(("event", "data", *self.reading.path))


def breaks(name: str, before: Json, after: Json) -> list[Break]:
    """The readings that the new schema of this type breaks; `before` is the latest one, None where there is none."""
    found = {}
    for reading in Listeners(name).readings():
        old = OPEN if before is None else field(before, reading.path)
        if what := _broken(old, field(after, reading.path)):
            found[reading] = Break(reading, what)
    return sorted(found.values(), key=lambda it: (it.name, it.reading.who, it.reading.where))


def _broken(old: Field, new: Field) -> str:
    if new.standing == "forbidden":
        return "" if old.standing == "forbidden" else "is forbidden"
    if old.standing != "declared":
        return ""
    if new.standing == "open":
        return "is no longer declared"
    if old.types and new.types and not _meet(old.types, new.types):
        return f"was {_words(old.types)} and becomes {_words(new.types)}"
    return ""


def _meet(old: Iterable[str], new: Iterable[str]) -> bool:
    """Whether some value can be of both; null alone is no use to anybody."""
    numbers = {"number", "integer"}
    known = set(old) | (numbers if "number" in old else set())
    wanted = set(new) | (numbers if "number" in new else set())
    return bool((known & wanted) - {"null"}) or known == wanted


def _words(types: Iterable[str]) -> str:
    return " or ".join(sorted(types))


@dataclass(frozen=True)
class Toll:
    """What the new schema breaks."""

    survey: Survey
    breaks: list[Break]
    refused: list[tuple[Event, list[Fault]]]
    """Some of the events that it refuses."""

    def __bool__(self) -> bool:
        return bool(self.breaks or self.survey.counts[REFUSED])


def toll(kind: EventType, schema: Json) -> Toll:
    """What saving this schema as the type's new version would break, in about a second.

    Where there are too many events, the number is an estimate from a sample. Raises SchemaError, and Busy.
    """
    latest = kind.schemas.first()
    trial = Trial(kind.name, schema)
    found = survey(trial.types, trial.labels, DAYS)
    broken = breaks(kind.name, latest.schema if latest else None, schema)
    return Toll(found, broken, trial.tell_all(found.shown.get(REFUSED, ())))
