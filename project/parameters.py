"""The parameters of a list."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from project.api import BadRequest, Fault, holds_nul
from project.timestamps import RFC3339, rfc3339

OF_PAGES: Final = ("cursor", "limit")


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
