"""A look at stored events, in steps that no request waits long for: what becomes of each is counted, some are shown.

It reads only. A review is JSON between two steps, so any web process can go on with it, and nobody has to be told when
it is given up.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.utils import timezone

from events import stored
from events.models import Event
from project.identifiers import first_uid_at, made_at
from project.reading import reading

Json: TypeAlias = Any
Labels: TypeAlias = Callable[[Event], Iterable[str]]
"""Says under which names an event counts."""

PAGE: Final = 100  # events that are in memory at once; one may have 256 KiB
STEP: Final = 0.2  # seconds of a step; a web process has others to serve
SHOWN: Final = 5  # events that are kept to be shown, of each name
QUICK: Final = 1.0  # seconds that a survey may take
EVENTS_A_CELL: Final = 20
MOST_CELLS: Final = 1000


@dataclass
class Review:
    """What was seen of the events with uids from `since` on and below `until`; down to `at` all of them were seen."""

    since: UUID
    until: UUID
    at: UUID
    seen: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    shown: defaultdict[str, list[UUID]] = field(default_factory=lambda: defaultdict(list))
    """The uids of the newest events by name."""

    @classmethod
    def of_days(cls, days: int) -> Review:
        """One that begins now; what comes later is not looked at."""
        now = timezone.now()
        return cls.between(first_uid_at(now - timedelta(days=days)), first_uid_at(now))

    @classmethod
    def between(cls, since: UUID, until: UUID) -> Review:
        return cls(since, until, until)

    @property
    def over(self) -> bool:
        return self.at <= self.since

    @property
    def progress(self) -> float:
        """How much of the time was seen, from 0 to 1."""
        whole = _span(self.since, self.until)
        return 1.0 if self.over or not whole else _span(self.at, self.until) / whole

    def step(self, types: Sequence[str], labels: Labels, seconds: float = STEP) -> None:
        """Go on for about so long, or to the end. Raises Busy, and may then be tried again."""
        ends_at = monotonic() + seconds
        with reading():
            while not self.over:
                events = stored.page(types, since=self.since, before=self.at, most=PAGE)
                for event in events:
                    self._count(event, labels(event))
                    if monotonic() > ends_at:
                        return
                if len(events) < PAGE:
                    self.at = self.since

    def _count(self, event: Event, names: Iterable[str]) -> None:
        for name in names:
            self.counts[name] += 1
            if len(self.shown[name]) < SHOWN:
                self.shown[name].append(event.uid)
        self.seen += 1
        self.at = event.uid

    def to_json(self) -> dict[str, Json]:
        return {
            **{name: str(getattr(self, name)) for name in ("since", "until", "at")},
            "seen": self.seen,
            "counts": dict(self.counts),
            "shown": {name: [str(uid) for uid in uids] for name, uids in self.shown.items()},
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Json]) -> Review:
        shown = {name: [UUID(uid) for uid in uids] for name, uids in kept["shown"].items()}
        since, until, at = (UUID(kept[name]) for name in ("since", "until", "at"))
        return cls(since, until, at, kept["seen"], Counter(kept["counts"]), defaultdict(list, shown))


@dataclass(frozen=True)
class Survey:
    """How many events count under each name; an estimate, unless it is `complete`."""

    days: int
    counts: Counter[str]
    shown: Mapping[str, list[UUID]]
    seen: int
    complete: bool


def survey(types: Sequence[str], labels: Labels, days: int, seconds: float = QUICK) -> Survey:
    """Count the events of the last days in about so long: all of them, or as many as a sample says. Raises Busy."""
    ends_at = monotonic() + seconds
    newest = Review.of_days(days)
    newest.step(types, labels, seconds / 2)
    if newest.over:
        return Survey(days, newest.counts, newest.shown, newest.seen, complete=True)
    sample, share = _sample(newest, types, labels, ends_at)
    for name, n in sample.counts.items():
        newest.counts[name] += round(n / share)
        newest.shown[name] = (newest.shown[name] + sample.shown[name])[:SHOWN]
    return Survey(days, newest.counts, newest.shown, newest.seen + sample.seen, complete=False)


def _sample(newest: Review, types: Sequence[str], labels: Labels, ends_at: float) -> tuple[Review, float]:
    """What is in some cells of the time that was not seen yet, and which share of that time they are.

    Cells are of equal length and chosen by chance: neither nights nor bursts make the estimate lean to one side.
    """
    rest = _span(newest.since, newest.at)
    expected = newest.seen * rest / max(_span(newest.at, newest.until), 1)
    number = max(1, min(int(expected / EVENTS_A_CELL), rest))
    sample, looked_at = Review.between(newest.since, newest.at), 0
    for cell in random.sample(range(number), min(number, MOST_CELLS)):
        sample.since, sample.at = (_after(newest.since, rest * edge // number) for edge in (cell, cell + 1))
        began_at = sample.at
        sample.step(types, labels, max(ends_at - monotonic(), 0))
        looked_at += _span(sample.at, began_at)
        if monotonic() > ends_at:
            break
    return sample, max(looked_at, 1) / rest


def _span(since: UUID, until: UUID) -> int:
    """Milliseconds between two UUIDv7."""
    return (until.int >> 80) - (since.int >> 80)


def _after(uid: UUID, milliseconds: int) -> UUID:
    return first_uid_at(made_at(uid) + timedelta(milliseconds=milliseconds))
