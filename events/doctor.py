"""Whether the sources can verify who calls them, and whether brokers are consumed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.core.exceptions import ValidationError

from events.brokers.base import Broker
from events.catalogue import hook
from events.consuming import State
from events.dead_letters import waiting
from events.feeds import Consumed, consumed
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
    if feed is None:
        return Finding(
            name, wrong="nobody has consumed it for 20 s", remedy="Start `manage.py consume`, the process `consumer`."
        )
    if feed.connected == 0 and feed.state != State.STARTING:
        return Finding(
            name,
            wrong=f"{feed.state}: {feed.error}",
            remedy="It is tried again by itself. Is the broker there, and are the source's settings right?",
        )
    lag = "" if feed.lag is None else f", {feed.lag:,} messages wait at the broker"
    return Finding(name, note=f"{feed.connected} of {feed.processes} consumers consume{lag}")


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
