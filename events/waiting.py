"""From an event to the steps that wait for it, and from a step that begins to wait to the events that came just before.

Nothing falls between the two: a wait is committed before anybody looks back, and looking back finds what was committed
until then. Whatever comes later is routed later, and routing finds the wait.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson
from django.db.models import QuerySet
from django.db.models.fields.json import KeyTransform

from events.models import MAX_PATH, Event, EventWait
from project import prepared
from project.expressions import Context, EvaluationError, Expression, compile_expression, make_context
from workflows import waits
from workflows.definition import ALL_VARIABLES
from workflows.waits import Answer

Json: TypeAlias = Any
Path: TypeAlias = tuple[str, ...]

INCOMING: Final = "incoming"
VARIABLES: Final = (INCOMING, *ALL_VARIABLES)
LOOKED_AT: Final = 10_000  # of a type's newest events, when a step looks back
JUDGED: Final = 1_000  # of those, after the field that has to be equal has sorted out the others
SKEW: Final = timedelta(minutes=1)  # by which the clocks of web processes, which make uids, may be wrong
SELECTIVE: Final = ("data", "subject", "id")
COLUMNS: Final = {"subject": "subject", "id": "event_id", "source": "source"}


def compiled(match: str) -> Expression:
    """The expression, compiled once per process. Raises ExpressionError."""
    return compile_expression(match, VARIABLES)


def new_wait(
    step: UUID, type_: str, match: str, known: Mapping[str, Json], *, origin: UUID | None, since: datetime
) -> EventWait:
    """The row of a step that begins to wait; `known` are the variables of its run.

    Raises EvaluationError when `match` needs something of the run that is not there: it could never be true.
    """
    wait = EventWait(step=step, type=type_, match=match, origin=origin, since=since)
    if not match:
        return wait
    expression = compiled(match)
    wait.seen = _read(expression, known)
    for path, other in _equalities(match):
        value = other.evaluate(make_context(**wait.seen))
        text = orjson.dumps(path).decode()
        if (key := _key(value)) and not wait.path and len(text) <= MAX_PATH:
            wait.path, wait.key, wait.value = text, key, value
    return wait


def meet(events: Sequence[Event]) -> None:
    """Complete the steps that wait for these events, inside the caller's transaction: each wait once, by the first."""
    fields = _fields_waited_on({event.type for event in events})
    if not fields:
        return
    answers: dict[UUID, Answer] = {}
    candidates = _candidates(events, fields)
    for event in events:
        judge = Judge(event)
        for wait in candidates[event.uid]:
            if wait.step not in answers and judge.says_yes(wait):
                answers[wait.step] = Answer(received(event))
    if answers:
        waits.complete(answers)


def look_back(wait: EventWait, *, waiting_only: bool = False) -> Event | None:
    """The first event since then that the step waits for. `waiting_only`: of those that are still to be routed."""
    oldest = UUID(int=int((wait.since - SKEW).timestamp() * 1000) << 80)  # as a UUIDv7 begins
    recent = Event.objects.filter(type=wait.type, uid__gte=oldest, received_at__gte=wait.since).order_by("-uid")
    if waiting_only:
        recent = recent.filter(due_at__isnull=False)
    found = _with_value(wait, Event.objects.filter(pk__in=recent.values("pk")[:LOOKED_AT]))
    newest = list(found.defer("verdicts").order_by("-uid")[:JUDGED])
    return next((event for event in reversed(newest) if Judge(event).says_yes(wait)), None)


def received(event: Event) -> Json:
    """The output of a step that got its event."""
    return {"outcome": "received", "event": event.envelope()}


class Judge:
    """Asks waits whether an event is theirs. The event is converted for CEL once."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._context: Context | None = None

    def says_yes(self, wait: EventWait) -> bool:
        if self._event.uid == wait.origin or self._event.received_at < wait.since:
            return False
        if not wait.match:
            return True
        try:
            if self._context is None:
                self._context = make_context(**{INCOMING: self._event.envelope()})
            for name, value in wait.seen.items():
                self._context.set(name, value)
            # Not `explain`: nobody asks why the others, which may be many, are not the one.
            return compiled(wait.match).evaluate(self._context) is True
        except EvaluationError:  # a field is missing, or the event cannot be a context
            return False


def _read(expression: Expression, known: Mapping[str, Json]) -> dict[str, Json]:
    """Of these variables, what the expression reads, and no more. Raises EvaluationError for one that is not there."""
    seen: dict[str, Json] = {}
    # Longer paths first: where a shorter one takes the whole, it takes them in.
    for path in sorted(expression.fields, key=len, reverse=True):
        if path[0] == INCOMING:
            continue
        if path[0] not in known:
            raise EvaluationError(f"no variable {path[0]}")
        here, there = seen, known
        for part, following in pairwise(path):
            here, there = here.setdefault(part, {}), there[part]
            if not isinstance(there, Mapping) or following not in there:
                break
        else:
            here[path[-1]] = there[path[-1]]
    return seen


@lru_cache(maxsize=1024)
def _equalities(match: str) -> tuple[tuple[Path, Expression], ...]:
    """The clauses `incoming.x.y == …` whose other side the run knows: (("x", "y"), …), the most telling first."""
    found = [
        (path[1:], other)
        for path, other in compiled(match).equalities
        if path[0] == INCOMING and len(path) > 1 and all(field[0] != INCOMING for field in other.fields)
    ]
    return tuple(sorted(found, key=lambda pair: pair[0][0] not in SELECTIVE))


def _key(value: Json) -> str:
    """A hash that is equal wherever CEL's `==` is true: 1 and 1.0 are. Empty for lists and maps."""
    match value:
        case bool() | None:
            text = orjson.dumps(value).decode()
        case int() | float():
            text = f"#{float(value) + 0.0!r}"  # and -0.0 is 0
        case str():
            text = f'"{value}'
        case _:
            return ""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _at(document: Json, path: Path) -> Json:
    """The value there; a map, which no wait has as its value, when there is none."""
    for part in path:
        if not isinstance(document, dict) or part not in document:
            return {}
        document = document[part]
    return document


def _fields_waited_on(types: set[str]) -> dict[str, list[str]]:
    """By type, the paths (as they are stored) of its waits."""
    # One look into the index for each type that nobody waits for, and one more for each path: it steps from path to
    # path, where DISTINCT would read every wait.
    found: dict[str, list[str]] = defaultdict(list)
    for type_, path in prepared.execute(_FIELDS, [sorted(types)]):
        found[type_].append(path)
    return found


_FIELDS: Final = """
SELECT kind, path FROM unnest(%s::text[]) AS wanted (kind) CROSS JOIN LATERAL (
    WITH RECURSIVE paths (path) AS (
        (SELECT path FROM events_eventwait WHERE type = kind ORDER BY path LIMIT 1)
        UNION ALL
        SELECT (SELECT wait.path FROM events_eventwait AS wait WHERE type = kind AND wait.path > paths.path
                ORDER BY wait.path LIMIT 1)
        FROM paths WHERE paths.path IS NOT NULL)
    SELECT path FROM paths WHERE path IS NOT NULL) AS found
"""


def _candidates(events: Sequence[Event], fields: Mapping[str, Sequence[str]]) -> dict[UUID, list[EventWait]]:
    """By event, the waits that its type and its values lead to."""
    asked: dict[tuple[str, str, str], list[UUID]] = defaultdict(list)
    for event in events:
        if event.type in fields:
            envelope = event.envelope()
            for path in fields[event.type]:
                key = _key(_at(envelope, tuple(orjson.loads(path)))) if path else ""
                if key or not path:
                    asked[event.type, path, key].append(event.uid)
    found: dict[UUID, list[EventWait]] = defaultdict(list)
    if asked:
        for wait in EventWait.objects.raw(_CANDIDATES, [list(column) for column in zip(*asked, strict=True)]):
            for uid in asked[wait.type, wait.path, wait.key]:
                found[uid].append(wait)
    return found


# The ORM cannot compare three columns with a list of values that is one parameter.
_CANDIDATES: Final = """
SELECT wait.* FROM unnest(%s::text[], %s::text[], %s::text[]) AS asked (type, path, key)
JOIN events_eventwait AS wait USING (type, path, key) ORDER BY wait.step
"""


def _with_value(wait: EventWait, events: QuerySet[Event]) -> QuerySet[Event]:
    """Those whose field has the value that it has to have, where PostgreSQL can tell; else all of them."""
    first, *inside = orjson.loads(wait.path) if wait.path else [""]
    if first in COLUMNS and isinstance(wait.value, str):
        return events.filter(**{COLUMNS[first]: wait.value})
    # To PostgreSQL a number is a place in a list, and null is a field that may be missing.
    if first != "data" or not inside or wait.value is None or any(part.isdecimal() for part in inside):
        return events
    field: Any = "data"
    for part in inside:
        field = KeyTransform(part, field)
    return events.alias(waited_on=field).filter(waited_on=wait.value)
