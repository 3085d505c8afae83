"""Searching long lists of facts, newest first: what somebody writes into a search box, and the walk that finds it.

`type:order.* source:/shop refund` is two fields with their values, and a word. Each field says which rows it means, and
whether an index leads to them. One index is enough: along it PostgreSQL goes back from the newest row, and what else is
asked for is looked at row by row. So that this ends, it goes only as far as the time allows, and says how far it came.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from itertools import chain
from operator import and_, or_
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from django.db import connection
from django.db.models import Func, Model, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast
from django.db.models.lookups import IContains
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from project.bounded import Count, count
from project.durations import parse_duration
from project.identifiers import first_uid_at, made_at
from project.names import unknown
from project.reading import reading, values_of
from project.tokens import SEPARATOR, SIGNATURE

MOST_TERMS: Final = 10
MOST_WAYS: Final = 20  # values that a pattern may stand for, each of which is looked for by itself
FIRST_STEP: Final = 1000  # rows
PATIENCE: Final = 0.2  # seconds after which a walk goes no further


ALL: Final = Q()


class SearchError(ValueError):
    """What was written means nothing. `given`: the field beside the text that is at fault."""

    def __init__(self, message: str, given: str = "") -> None:
        super().__init__(message)
        self.given = given

    @property
    def told(self) -> str:
        """The message with the name of the field."""
        return f"{self.given}: {self}" if self.given else str(self)


# --- what is written --------------------------------------------------------------------------------------------------


class Term(NamedTuple):
    """`name:value`; a word has no name. `quoted`: it is meant as it is written."""

    name: str
    value: str
    quoted: bool = False


_TERM: Final = re.compile(r'(?:(?P<name>[A-Za-z_]+):)?(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"]\S*))(?=\s|\Z)')


def terms(text: str) -> list[Term]:
    """The terms of a search. Raises SearchError.

    >>> terms('type:order.* "two words"')
    [Term(name='type', value='order.*', quoted=False), Term(name='', value='two words', quoted=True)]
    """
    found: list[Term] = []
    rest = text.strip()
    if "\0" in rest:
        raise SearchError("A search cannot contain a NUL character.")
    while rest:
        match = _TERM.match(rest)
        if match is None:
            raise SearchError(f"A quotation mark is not closed, or a word touches it: {rest}")
        name, quoted, bare = match.group("name", "quoted", "bare")
        if name is None and bare is not None and re.fullmatch(r"[A-Za-z_]+:", bare):
            raise SearchError(f'{bare} has no value: write {bare}VALUE without a space between, or {bare}"TWO WORDS".')
        found.append(Term(name or "", quoted if bare is None else bare, quoted=bare is None))
        rest = rest[match.end() :].lstrip()
    if len(found) > MOST_TERMS:
        raise SearchError(f"There are {len(found)} words; at most {MOST_TERMS} can be looked for at once.")
    return found


def uid(text: str) -> UUID:
    """Raises SearchError when it is none."""
    try:
        return UUID(text.strip())
    except ValueError as error:
        raise SearchError(f'"{text}" is not a uid like 01928c5e-7b1a-7000-8000-0123456789ab.') from error


def moment(text: str) -> datetime:
    """A time as people write it: a date, a date and a time, or how long ago. Raises SearchError."""
    try:
        return timezone.now() - parse_duration(text)
    except ValueError:
        pass
    try:
        found = parse_datetime(text.upper()) if len(text) > 10 else None
        if found is None and (day := parse_date(text)) is not None:
            found = datetime(day.year, day.month, day.day)  # noqa: DTZ001  made aware below
        if found is not None:
            return found if timezone.is_aware(found) else timezone.make_aware(found)
    except (ValueError, OverflowError):
        pass
    zone = timezone.get_current_timezone_name()
    raise SearchError(
        f'"{text}" is not a time: write 2026-11-30, 2026-11-30T14:00 ({zone}), or how long ago, as in 2h or 7d.'
    )


# --- what it means ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """Rows that fulfil one of `ways`; none of them: no row does.

    `rank`: an index leads to the rows of each way, newest first; the smaller the rank, the fewer they are. None: no
    index does, so rows are looked at one by one.
    """

    ways: Sequence[Q]
    rank: int | None = None

    @property
    def where(self) -> Q:
        return reduce(or_, self.ways) if self.ways else Q(pk__in=())


Meaning: TypeAlias = Callable[[str], Condition]


@dataclass(frozen=True)
class Field:
    """`says` what is written behind its name, for people; `means` raises SearchError for a value that is none."""

    says: str
    means: Meaning


def within(word: str, *columns: str) -> Q:
    """Rows with the word in one of these columns, text or JSON, in capitals or not.

    The signatures of tokens are not looked at: whoever may not see one could find it out letter by letter.
    """
    found = Q()
    for column in columns:
        text = Cast(column, TextField())
        shown = Func(
            *(text, Value(SIGNATURE), Value(SEPARATOR), Value("g")),
            function="regexp_replace",
            output_field=TextField(),
        )
        found |= Q(IContains(text, Value(word))) & Q(IContains(shown, Value(word)))
    return found


def among(column: str, model: type[Model], wanted: Callable[[str], bool], otherwise: Q, rank: int) -> Condition:
    """Rows whose column has one of the stored values that are `wanted`; row by row, `otherwise`, when they are many.

    An index has to begin with the column.
    """
    values = values_of(model, column, MOST_WAYS * 10 + 1)
    ways = [Q((column, value)) for value in values if wanted(value)]
    if len(values) > MOST_WAYS * 10 or len(ways) > MOST_WAYS:
        return Condition([otherwise])
    return Condition(ways, rank)


def named(model: type[Model], name: str) -> int:
    """The key of what has this name. Raises SearchError."""
    rows = model._default_manager.order_by("name")
    found = rows.filter(name=name).values_list("pk", flat=True).first()
    if found is None:
        names = list(rows.values_list("name", flat=True))
        raise SearchError(f"{unknown(str(model._meta.verbose_name), name, names)}.")
    return int(found)


def choice(kind: str, states: Mapping[str, Condition]) -> Meaning:
    """One of a few names. Its meaning raises SearchError for another."""

    def means(value: str) -> Condition:
        if value not in states:
            raise SearchError(f"{unknown(kind, value, states)}.")
        return states[value]

    return means


_TIMES: Final = {
    "since": ("from that time on: 2026-11-30, 2026-11-30T14:00, or how long ago: 2h, 7d", "pk__gte"),
    "until": ("before that time", "pk__lt"),
}


@dataclass(frozen=True)
class Asked:
    """What a search means. `span`: the part of the table, by the primary key. `read_as`: how a sole word was read."""

    conditions: Sequence[Condition] = ()
    span: Q = ALL
    read_as: str = ""

    @property
    def where(self) -> Q:
        """All of it, for what needs no order."""
        return reduce(and_, (condition.where for condition in self.conditions), self.span)

    @property
    def led(self) -> Condition | None:
        """The condition whose index is gone along."""
        ranked = [it for it in self.conditions if it.rank is not None]
        if len(self.conditions) > 1:  # rows are looked at one by one, which takes one order
            ranked = [it for it in ranked if len(it.ways) == 1]
        return min(ranked, key=lambda it: it.rank or 0, default=None)

    @property
    def checks(self) -> list[Condition]:
        """The conditions that are looked at row by row."""
        led = self.led
        return [it for it in self.conditions if it is not led]


class Search:
    """How one list is searched.

    `words` are the columns that a word is looked for in, told by `in_words`. `keys` are the fields that a sole word is
    tried as.
    """

    def __init__(
        self,
        model: type[Model],
        fields: Mapping[str, Field],
        *,
        words: Sequence[str],
        in_words: str,
        keys: Sequence[str],
        example: str,
    ) -> None:
        self.model = model
        self.fields = dict(fields)
        self.words = words
        self.in_words = in_words
        self.keys = list(keys)
        self.example = example

    def offer(self, name: str, field: Field, *, key: bool = False) -> None:
        """One more field, by a package that knows what this one does not."""
        self.fields[name] = field
        if key:
            self.keys.insert(1, name)

    @property
    def names(self) -> list[str]:
        return [*self.fields, *_TIMES]

    @property
    def help(self) -> list[tuple[str, str]]:
        """Each field with what is written behind its name."""
        return [
            *((name, field.says) for name, field in self.fields.items()),
            *((name, says) for name, (says, _) in _TIMES.items()),
        ]

    def read(self, text: str, given: Iterable[tuple[str, str]] = ()) -> Asked:
        """What the text means, together with fields that were `given` elsewhere. Raises SearchError, and Busy."""
        asked = Asked()
        for name, value in given:
            try:
                asked = self._with(asked, Term(name, value))
            except SearchError as error:
                raise SearchError(str(error), name) from error
        written = terms(text)
        if len(written) == 1 and not written[0].name and not written[0].quoted and (key := self._key(written[0].value)):
            name, condition = key
            return replace(asked, conditions=(*asked.conditions, condition), read_as=f"{name}:{written[0].value}")
        for term in written:
            try:
                asked = self._with(asked, term)
            except SearchError as error:
                raise SearchError(f"{term.name}: {error}" if term.name in self.names else str(error)) from error
        return asked

    def _with(self, asked: Asked, term: Term) -> Asked:
        if term.name in _TIMES:
            _, lookup = _TIMES[term.name]
            return replace(asked, span=asked.span & Q((lookup, first_uid_at(moment(term.value)))))
        return replace(asked, conditions=(*asked.conditions, self._condition(term)))

    def _condition(self, term: Term) -> Condition:
        if not term.name:
            return Condition([within(term.value, *self.words)])
        if term.name not in self.fields:
            told = unknown("field", term.name, self.names)
            raise SearchError(f'U{told[1:]}. To look for it as a word, quote it: "{term.name}:{term.value}"')
        return self.fields[term.name].means(term.value)

    def _key(self, word: str) -> tuple[str, Condition] | None:
        """The first of `keys` that this word is one of, by a look into its index."""
        with reading():
            for name in self.keys:
                try:
                    condition = self.fields[name].means(word)
                except SearchError:
                    continue
                if any(self.model._default_manager.filter(way).exists() for way in condition.ways):
                    return name, condition
        return None


# --- the walk ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """Rows, newest first. `older`: those below this uid come next; None: there are no more.

    `searched_to`: the walk was ended there for want of time, so there may be more that it did not see.
    """

    rows: Sequence[Any] = ()
    older: UUID | None = None
    searched_to: datetime | None = None


def page(rows: QuerySet[Any], asked: Asked, *, before: UUID | None = None, most: int) -> Page:
    """The newest of these rows that are asked for, below `before`, at most so many. Raises Busy."""
    rows = rows.filter(asked.span).order_by("-pk")
    if before is not None:
        rows = rows.filter(pk__lt=before)
    if not all(condition.ways for condition in asked.conditions):
        return Page()
    with reading():
        if asked.checks:
            return _walk(rows, asked, most)
        ways = asked.led.ways if asked.led else [Q()]
        found = sorted(
            chain.from_iterable(rows.filter(way)[: most + 1] for way in ways), key=lambda row: row.pk, reverse=True
        )
        found = list({row.pk: row for row in found}.values())
        return Page(found[:most], older=found[most - 1].pk if len(found) > most else None)


def _walk(rows: QuerySet[Any], asked: Asked, most: int) -> Page:
    """Go back along the index a step at a time, as long ones as there is time for, until enough is found or it is up.

    A step is a stretch of the primary key that holds so many of the index's rows: two statements that PostgreSQL cannot
    take for the whole table.
    """
    way = rows.filter(asked.led.where) if asked.led else rows
    checks = reduce(and_, (condition.where for condition in asked.checks))
    found: list[Any] = []
    began, step, end = time.monotonic(), FIRST_STEP, None
    while True:
        started = time.monotonic()
        stretch = way if end is None else way.filter(pk__lt=end)
        start = stretch.values_list("pk", flat=True)[step - 1 : step].first()
        hits = stretch.filter(checks) if start is None else stretch.filter(checks, pk__gte=start)
        found += hits[: most + 1 - len(found)]
        if len(found) > most:
            return Page(found[:most], older=found[most - 1].pk)
        if start is None:
            return Page(found)
        now = time.monotonic()
        left = PATIENCE - (now - began)
        if left <= 0:
            return Page(found, older=start, searched_to=made_at(start))
        end, step = start, max(FIRST_STEP, min(2 * step, int(step * left / (now - started))))


def total(rows: QuerySet[Any], asked: Asked) -> Count | None:
    """How many rows are asked for, up to a bound; None when only looking at each would tell. Raises Busy."""
    if asked.checks:
        return None
    with reading():
        return count(rows.filter(asked.where))


def estimate(model: type[Model]) -> int:
    """About how many rows the table has, by the statistics that autovacuum keeps; 0 when there are none yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [model._meta.db_table])
        (found,) = cursor.fetchone() or (0,)
    return max(0, int(found))
