"""`database.*`: rows of the team's own models (settings.WORKFLOW_MODELS).

Rows are written as SQL, many at once: a model's `save` is not called and no signals are sent. What a model says of its
fields holds all the same: types, choices, validators, defaults, `auto_now`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Final, Self

from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from pydantic import AfterValidator

from project.expressions import is_dynamic, to_json
from project.names import unknown
from workflows import rows
from workflows.actions import Action, Call, StepError, action
from workflows.actions.base import Json, MembersOf, Named, Rehearsal
from workflows.rows import Model
from workflows.upsert import Shape, upsert

Given = Mapping[str, Json]


def _not_all(where: dict[str, Json]) -> dict[str, Json]:
    if not where:
        raise ValueError("an empty `where` means every row of the table; name at least one field")
    return where


Fields = Annotated[dict[str, Json], MembersOf("model")]
Where = Annotated[Fields, AfterValidator(_not_all)]


@dataclass
class Change:
    """What a step says under `with`, in the types of the model's fields, by their names."""

    model: Model
    key: dict[str, Any]
    where: dict[str, Any]
    values: dict[str, Any]
    increment: dict[str, Any]
    if_newer: str | None

    @property
    def new_row(self) -> dict[str, Any]:
        return {**self.key, **self.values, **self.increment}

    @property
    def shape(self) -> Shape:
        return Shape(self.model, tuple(self.key), tuple(self.values), tuple(self.increment), self.if_newer)

    def not_as_new(self, chosen: QuerySet[Any]) -> QuerySet[Any]:
        """Of these rows, those that `if_newer` lets change."""
        if self.if_newer is None:
            return chosen
        newer = Q(**{f"{self.if_newer}__isnull": True})
        if (value := self.values[self.if_newer]) is not None:
            newer |= Q(**{f"{self.if_newer}__lt": value})
        return chosen.filter(newer)


_TAKERS: Final = {"key": rows.written, "where": rows.compared, "values": rows.written, "increment": rows.amount}


class _OnModel(Action):
    model: Annotated[str, Named("models")]

    @classmethod
    def check(cls, given: Given) -> Iterable[tuple[str, str]]:
        return cls._read(given, is_dynamic)[1]

    @classmethod
    def refuse(cls, change: Change) -> Iterator[tuple[str, str]]:
        """What is wrong with the change as a whole, as (path, message) pairs."""
        yield from ()

    def change(self) -> Change:
        """The step's settings, read. Raises StepError with all that is wrong with them."""
        change, problems = self._read(vars(self), lambda value: False)
        if change is None or problems:
            raise StepError("; ".join(f"{path}: {message}" for path, message in problems), permanent=True)
        return change

    @classmethod
    def _read(cls, given: Given, later: Callable[[Json], bool]) -> tuple[Change | None, rows.Problems]:
        """The change, as far as it is known now, and what is wrong with it."""
        if later(given["model"]):
            return None, []
        try:
            model = rows.permitted(given["model"])
        except LookupError as error:
            return None, [("model", str(error))]
        sections: dict[str, dict[str, Any]] = {section: {} for section in _TAKERS}
        problems: rows.Problems = []
        for section, take in _TAKERS.items():
            written = given.get(section)
            if isinstance(written, str):  # all of it is one expression
                return None, problems
            if written:
                sections[section], wrong = rows.read(model, written, take, later)
                problems += [(f"{section}.{name}", message) for name, message in wrong]
        change = Change(model, **sections, if_newer=given.get("if_newer"))
        if not problems:
            problems += cls.refuse(change)
        return change, problems


class _Changing(_OnModel):
    values: Fields = {}
    increment: Fields = {}
    """What is added to numbers; null counts as 0."""
    if_newer: Annotated[str | None, MembersOf("model")] = None
    """One of the values: a row is changed only where its own is smaller or null."""

    @classmethod
    def refuse(cls, change: Change) -> Iterator[tuple[str, str]]:
        if change.if_newer is not None and change.if_newer not in change.values:
            yield "if_newer", unknown("field among the values", change.if_newer, list(change.values))
        for name in change.increment.keys() & change.values.keys():
            yield f"increment.{name}", "stands in `values` as well; it can be set or incremented, not both"


@action("database.insert")
class Insert(_OnModel):
    """Adds a row. Output: {"created": true, "key": {field: the new row's primary key}}."""

    values: Fields

    @classmethod
    def refuse(cls, change: Change) -> Iterator[tuple[str, str]]:
        return _refuse_new_row(change)

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        outputs: list[Json] = []
        for model, group in groupby((one.change() for one, _ in calls), key=lambda change: change.model):
            made = [
                model(**{rows.fields(model)[name].attname: value for name, value in change.values.items()})
                for change in group
            ]
            pk = rows.fields(model)[model._meta.pk.name]
            for row in model._base_manager.bulk_create(made):
                outputs.append({"created": True, "key": {pk.name: to_json(row.pk)}})
        return outputs

    def rehearse(self, call: Call) -> Rehearsal:
        change = self.change()
        pk = change.model._meta.pk.name
        output = {"created": True, "key": {pk: to_json(change.values.get(pk))}}
        return Rehearsal(f"add a row to {self.model}", output, "example")


@action("database.update")
class Update(_Changing):
    """Changes the rows that `where` names. Output: {"rows": how many}."""

    where: Where

    @classmethod
    def refuse(cls, change: Change) -> Iterator[tuple[str, str]]:
        yield from super().refuse(change)
        if not change.values and not change.increment:
            yield "values", "nothing to change: name a field in `values` or `increment`"

    def run(self, call: Call) -> Json:
        change = self.change()
        chosen = change.not_as_new(_chosen(change))
        return {"rows": chosen.update(**change.values, **_sums(change), **_times(change.model))}

    def rehearse(self, call: Call) -> Rehearsal:
        change = self.change()
        rows = change.not_as_new(_chosen(change)).count()
        return Rehearsal(f"change {_rows(rows)} of {self.model}", {"rows": rows})


@action("database.upsert")
class Upsert(_Changing):
    """Changes the row with this `key`, or adds it. Output: {"created": …, "changed": …, "key": …}.

    `changed` is false when the row that is there is as new as `if_newer` asks.
    """

    key: Fields
    """A primary key, a unique field, or the fields of a unique constraint."""

    @classmethod
    def refuse(cls, change: Change) -> Iterator[tuple[str, str]]:
        yield from super().refuse(change)
        unique = rows.unique_keys(change.model)
        if frozenset(change.key) not in unique:
            known = " · ".join(", ".join(sorted(names)) for names in unique)
            yield "key", f"these fields are not unique in {change.model._meta.label}; unique are: {known}"
        for name, value in change.key.items():
            if value is None:
                yield f"key.{name}", "cannot be null: nulls are never equal, so no row would be found"
            if name in change.values or name in change.increment:
                yield f"key.{name}", "stands in `values` or `increment` as well; a key is not changed"
        yield from _refuse_new_row(change)

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        changes = [one.change() for one, _ in calls]
        created: list[bool | None] = []
        for shape, group in groupby(changes, key=lambda change: change.shape):
            created += _in_turn(shape, list(group))
        return [
            {"created": new is True, "changed": new is not None, "key": one.key}
            for (one, _), new in zip(calls, created, strict=True)
        ]

    def rehearse(self, call: Call) -> Rehearsal:
        change = self.change()
        there = change.model._base_manager.filter(**change.key)
        created = not there.exists()
        changed = created or change.not_as_new(there).exists()
        would = "add a row to" if created else "change a row of" if changed else "leave the row, which is as new, of"
        return Rehearsal(f"{would} {self.model}", {"created": created, "changed": changed, "key": self.key})


@action("database.delete")
class Delete(_OnModel):
    """Deletes the rows that `where` names, and what the model's `on_delete` takes along. Output: {"rows": how many}."""

    where: Where

    def run(self, call: Call) -> Json:
        change = self.change()
        _, counts = _chosen(change).delete()
        return {"rows": counts.get(change.model._meta.label, 0)}

    def rehearse(self, call: Call) -> Rehearsal:
        rows = _chosen(self.change()).count()
        return Rehearsal(f"delete {_rows(rows)} of {self.model}", {"rows": rows})


def _refuse_new_row(change: Change) -> Iterator[tuple[str, str]]:
    if change.model._meta.parents:
        parents = ", ".join(parent._meta.label for parent in change.model._meta.parents)
        yield "model", f"its rows are spread over tables of {parents}; they can be updated and deleted, not made"
    for name in rows.missing(change.model, frozenset(change.new_row)):
        yield f"values.{name}", "this field is required: it has no default and cannot be empty"


def _chosen(change: Change) -> QuerySet[Any]:
    equal = {name: value for name, value in change.where.items() if value is not None}
    nulls = {f"{name}__isnull": True for name, value in change.where.items() if value is None}
    return change.model._base_manager.filter(**equal, **nulls)


def _rows(number: int) -> str:
    return f"{number} row{'' if number == 1 else 's'}"


def _sums(change: Change) -> dict[str, Any]:
    sums = {}
    for name, amount in change.increment.items():
        field = rows.fields(change.model)[name]
        sums[name] = Coalesce(F(name), Value(0), output_field=field) + Value(amount, output_field=field)
    return sums


def _times(model: Model) -> dict[str, Any]:
    """What `save` would write into fields with `auto_now`."""
    row = model()
    return {
        name: field.pre_save(row, False)
        for name, field in rows.fields(model).items()
        if getattr(field, "auto_now", False)
    }


def _in_turn(shape: Shape, changes: Sequence[Change]) -> list[bool | None]:
    """Upsert them in one statement; of those with the same key each in a statement of its own, in their order."""
    turns: list[list[int]] = []
    seen: dict[str, int] = {}
    for index, change in enumerate(changes):
        key = repr(change.key)
        turn = seen[key] = seen.get(key, -1) + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(index)
    created: list[bool | None] = [None] * len(changes)
    for turn_ in turns:
        for index, new in zip(turn_, upsert(shape, [changes[index].new_row for index in turn_]), strict=True):
            created[index] = new
    return created
