"""Rows of the team's own models: which a workflow may write, and JSON values as their fields take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from django.apps import apps
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from project.fields import shown
from project.names import unknown

Json: TypeAlias = Any
Model: TypeAlias = type[models.Model]
Field: TypeAlias = "models.Field[Any, Any]"
Problems: TypeAlias = list[tuple[str, str]]

NUMBERS = (models.IntegerField, models.DecimalField, models.FloatField)

UNKNOWN = object()
"""Stands for a value that is not known before the step runs."""


def permitted(name: str) -> Model:
    """The model `app.Model`, when settings.WORKFLOW_MODELS lists it. Raises LookupError, whose message names those."""
    if name not in settings.WORKFLOW_MODELS:
        raise LookupError(f"{unknown('model', name, settings.WORKFLOW_MODELS)} (settings.WORKFLOW_MODELS)")
    return apps.get_model(name)


@lru_cache
def fields(model: Model) -> dict[str, Field]:
    """The model's columns by the names of their fields."""
    return {field.name: field for field in model._meta.concrete_fields if not getattr(field, "generated", False)}


@lru_cache
def unique_keys(model: Model) -> list[frozenset[str]]:
    """The sets of fields that can hold each combination of values only once, as ON CONFLICT takes them."""
    single = [frozenset({field.name}) for field in fields(model).values() if field.unique]
    together = [frozenset(names) for names in model._meta.unique_together]
    constraints = [
        frozenset(constraint.fields)
        for constraint in model._meta.constraints
        if isinstance(constraint, models.UniqueConstraint)
        and constraint.fields
        and constraint.condition is None
        and constraint.deferrable is None
    ]
    return list(dict.fromkeys([*single, *together, *constraints]))


def is_automatic(field: Field) -> bool:
    """Whether the model sets the field itself at every change or at the first."""
    return getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


@lru_cache
def missing(model: Model, given: frozenset[str]) -> list[str]:
    """The fields that a new row needs and that neither `given` nor a default fills."""
    return [
        name
        for name, field in fields(model).items()
        if name not in given
        and not (field.has_default() or field.has_db_default() or field.null or field.blank or is_automatic(field))
    ]


def read(
    model: Model, given: Mapping[str, Json], take: Callable[[Field, Json], Any], later: Callable[[Json], bool]
) -> tuple[dict[str, Any], Problems]:
    """The values as `take` makes them fit their fields, and what is wrong with the others, by the names of the fields.

    Values for which `later` is true become UNKNOWN.
    """
    values: dict[str, Any] = {}
    problems: Problems = []
    for name, value in given.items():
        field = fields(model).get(name)
        if field is None:
            problems.append((name, unknown(f"field of {model._meta.label}", name, fields(model))))
        elif later(value):
            values[name] = UNKNOWN
        else:
            try:
                values[name] = take(field, value)
            except ValidationError as error:
                problems.append((name, " ".join(_messages(error, field, value))))
    return values, problems


def compared(field: Field, value: Json) -> Any:
    """The JSON value as something to compare the field with. Raises ValidationError."""
    return None if value is None else _converted(field, value)


def written(field: Field, value: Json) -> Any:
    """The JSON value as something to store in the field, held against all that `full_clean` asks of a single field.

    Whether the row exists that a foreign key points at is left to PostgreSQL. Raises ValidationError.
    """
    if is_automatic(field):
        raise ValidationError("the model sets this field itself (auto_now)")
    if value is None and not field.null:
        raise ValidationError("cannot be null")
    result = compared(field, value)
    if not (field.blank and result in field.empty_values):
        if field.is_relation:
            models.Field.validate(field, result, None)  # without its query per value
        else:
            field.validate(result, None)
        field.run_validators(result)
    return result


def amount(field: Field, value: Json) -> Any:
    """The JSON value as something to add to the field. Raises ValidationError."""
    if not isinstance(field, NUMBERS):
        raise ValidationError("only numbers can be incremented")
    if value is None:
        raise ValidationError("cannot be null")
    return _converted(field, value)


def _converted(field: Field, value: Json) -> Any:
    """The value as the field's own type."""
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if isinstance(field, ArrayField) and isinstance(value, list):
        return [_converted(field.base_field, item) for item in value]
    if not isinstance(value, str):
        value = _no_liberties(field, value)
    try:
        result = field.to_python(value)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # Some fields take it for granted that a form sends text.
        raise ValidationError(f"{shown(value)} is no value for a {field.get_internal_type()}") from error
    if isinstance(field, models.DateTimeField) and result is not None and timezone.is_naive(result):
        return timezone.make_aware(result)
    return result


def _no_liberties(field: Field, value: Json) -> Json:
    """The value, unless only a web form may mean by it what the field would make of it. Raises ValidationError."""
    if isinstance(value, bool | list | dict):
        if isinstance(field, models.CharField | models.TextField):
            raise ValidationError(f"should be text, not {shown(value)}")
        if isinstance(field, NUMBERS):
            raise ValidationError(f"should be a number, not {shown(value)}")
    if isinstance(value, float) and not value.is_integer():
        if isinstance(field, models.IntegerField):
            raise ValidationError(f"should be a whole number, not {shown(value)}")
        if isinstance(field, models.DecimalField):
            # What a person meant: 0.1 + 0.2 is 0.3. Every decimal of 15 digits survives the way through a double.
            return f"{value:.15g}"
    return value


def _messages(error: ValidationError, field: Field, value: Json) -> Iterator[str]:
    for one in error.error_list:
        if one.code == "invalid_choice" and field.flatchoices:
            yield unknown("choice", str(value), [str(choice) for choice, _ in field.flatchoices])
        else:
            yield from one.messages
