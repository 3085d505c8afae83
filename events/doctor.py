"""Whether the sources can verify who calls them, and whether brokers are consumed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.core.exceptions import ValidationError

from events.brokers.base import Broker
from events.catalogue import hook
from events.dead_letters import waiting
from events.feeds import Consumed, consumed, wrong_with
from events.models import Source
from events.sources import adapters
from project.doctor import Finding, examination


@examination
def sources() -> Iterator[Finding]:
    told = consumed()
    for row in Source.objects.order_by("name"):
        adapter = adapters.get(row.adapter)
        if adapter is None or adapter.webhooks:
            yield _examined(row)
        elif issubclass(adapter, Broker):
            yield _consumption(row, told)


@examination
def dead_letters() -> Iterator[Finding]:
    """What could not be an event, and waits for a person."""
    letters = waiting()
    for name, number in letters.items():
        yield Finding(f"dead letters of {name}", note=f"{number:,} wait; see Dead letters in the admin")
    if not letters:
        yield Finding("dead letters", note="none waits")


def _examined(row: Source) -> Finding:
    name = f"source {row.name}"
    if (found := _well_formed(row)) is not None:
        return found
    if problem := hook(row).problem:
        return Finding(
            name, wrong=f"it can verify nothing: {problem}", remedy="Set what is missing where web runs, or change it."
        )
    return Finding(name, note="the previous secret is valid, too" if row.previous_secret else "")


def _consumption(row: Source, told: Mapping[str, Consumed]) -> Finding:
    name = f"source {row.name}"
    if (found := _well_formed(row)) is not None:
        return found
    feed = told.get(row.name)
    if trouble := wrong_with(feed):
        wrong, remedy = trouble
        return Finding(name, wrong=wrong, remedy=remedy)
    return Finding(name, note=str(feed))


def _well_formed(row: Source) -> Finding | None:
    """What there is to say before anything else is looked at."""
    if not row.enabled:
        return Finding(f"source {row.name}", note="disabled")
    try:
        row.full_clean()
    except ValidationError:
        # `configuration` says what is wrong with it
        return Finding(f"source {row.name}", note=f"see Source {row.name}")
    return None
