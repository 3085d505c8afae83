"""Samples: events to try workflows and templates out with.

An app that has some says so in a module `samples.py`, by `offer(Samples())`. Whoever shows them knows no events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from django.contrib.auth.models import AnonymousUser, User
from django.utils.module_loading import autodiscover_modules

Json: TypeAlias = Any
Person: TypeAlias = User | AnonymousUser


@dataclass(frozen=True, slots=True)
class Sample:
    """An event that can be chosen. `group` is what stands above it in a list."""

    key: str
    label: str
    group: str


class Samples(Protocol):
    """Where samples come from. A person is offered and given only what they may see."""

    def offered(self, person: Person, *, workflow: str = "", template: str = "") -> Sequence[Sample]:
        """Those to choose from, the likeliest first; `workflow` or `template` names what they are for."""

    def event(self, person: Person, key: str) -> dict[str, Json] | None:
        """The event, as expressions and templates see it; None when there is none."""


_sources: list[Samples] = []


def offer(source: Samples) -> None:
    _sources.append(source)


def offered(person: Person, *, workflow: str = "", template: str = "") -> list[Sample]:
    """The samples of every app."""
    return [one for source in _known() for one in source.offered(person, workflow=workflow, template=template)]


def event(person: Person, key: str) -> dict[str, Json] | None:
    """The event of this key; None when there is none that the person may see."""
    return next((found for source in _known() if (found := source.event(person, key)) is not None), None)


def _known() -> Sequence[Samples]:
    autodiscover_modules("samples")
    return _sources
