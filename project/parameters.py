"""The parameters of a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeAlias

from django.db.models import Q

from project.api import BadRequest, Fault, holds_nul
from project.identifiers import first_uid_at
from project.searching import Asked, Search, SearchError
from project.timestamps import RFC3339, rfc3339

OF_PAGES: Final = ("cursor", "limit")

Span: TypeAlias = Callable[[datetime | None, datetime | None], Q]
"""The rows from a time on, before another."""


def check(parameters: Mapping[str, str], *known: str) -> None:
    """Raise BadRequest for parameters that are neither `known` nor of pages, or that PostgreSQL cannot take."""
    if unknown := sorted(set(parameters) - {*known, *OF_PAGES}):
        told = ", ".join(sorted([*known, *OF_PAGES]))
        raise BadRequest(f"Unknown parameter {unknown[0]}.", [Fault(name, f"known are {told}") for name in unknown])
    if nul := [name for name, value in parameters.items() if holds_nul(value)]:
        raise BadRequest(
            "A parameter contains a NUL character.", [Fault(name, "contains a NUL character") for name in nul]
        )


def moment(parameters: Mapping[str, str], name: str) -> datetime | None:
    """The time that this parameter says. Raises BadRequest."""
    given = parameters.get(name)
    if given is None:
        return None
    found = rfc3339(given)
    if found is None:
        raise BadRequest(f"{name} is not a time.", [Fault(name, f"must be {RFC3339}")])
    return found


def made(since: datetime | None, until: datetime | None) -> Q:
    """By the time that rows were made, which their uids begin with."""
    span = Q()
    if since:
        span &= Q(pk__gte=first_uid_at(since))
    if until:
        span &= Q(pk__lt=first_uid_at(until))
    return span


def asked(search: Search, parameters: Mapping[str, str], fields: Mapping[str, str], span: Span = made) -> Asked:
    """What a list's parameters ask of its search: `since`, `until`, `q`, and those that stand for `fields`.

    Raises BadRequest for one that is unknown or means nothing, and Busy.
    """
    check(parameters, *fields, "since", "until", "q")
    times = span(moment(parameters, "since"), moment(parameters, "until"))
    given = [(field, parameters[name]) for name, field in fields.items() if name in parameters]
    if empty := [name for name in fields if parameters.get(name) == ""]:
        raise BadRequest(
            f"{empty[0]} is empty.", [Fault(name, "is empty: leave it out, or say a value") for name in empty]
        )
    try:
        found = search.read(parameters.get("q", ""), given)
    except SearchError as error:
        name = next((name for name, field in fields.items() if field == error.given), "q")
        raise BadRequest(f"{name} means nothing.", [Fault(name, str(error))]) from error
    return replace(found, span=found.span & times)
