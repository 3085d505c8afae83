"""Who may be served, and how much: shares, rate limits and holds of lanes, as pure decisions.

A channel is a lane: its deliveries wait in it, and what happens in it hurts no other. A lane is held back (its
deliveries wait, no attempt is spent) after TROUBLES failures in a row, for FIRST_HOLD; then one delivery probes it, and
each further failure doubles the time up to LONGEST_HOLD. One success ends all that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from project.rates import Rate

TROUBLES: Final = 5
FIRST_HOLD: Final = timedelta(seconds=5)
LONGEST_HOLD: Final = timedelta(minutes=5)
SWITCHED_OFF_AFTER: Final = timedelta(days=3)

FIRST_WINDOW: Final = 8


def share(free: int, wants: Sequence[int]) -> list[int]:
    """Divide `free` slots: nobody gets more than it wants, and nobody gets less so that another gets more.

    When there are fewer slots than lanes, the first ones get one each.

    >>> share(10, [2, 100, 100]), share(2, [5, 5, 5]), share(100, [1, 2])
    ([2, 4, 4], [1, 1, 0], [1, 2])
    """
    given = [0] * len(wants)
    lanes = [lane for lane, want in enumerate(wants) if want > 0]
    if free < len(lanes):
        lanes = lanes[:free]
    lanes.sort(key=lambda lane: wants[lane])  # what the modest ones leave is divided between the others
    for position, lane in enumerate(lanes):
        given[lane] = min(wants[lane], math.ceil(free / (len(lanes) - position)))
        free -= given[lane]
    return given


@dataclass(frozen=True, slots=True)
class Pace:
    """A rate limit as a lane keeps it: a tenth of the rate may go at once, the rest goes evenly spaced.

    So in no stretch of the rate's time more than its count goes, wherever the stretch begins. The lane remembers one
    time, `next_at`: when it would be free again if everything had gone evenly spaced (GCRA).
    """

    burst: int
    interval: float  # seconds

    @classmethod
    def of(cls, rate: Rate) -> Pace:
        burst = max(1, rate.count // 10)
        return cls(burst, rate.per_seconds / (rate.count - burst + 1))

    def allowance(self, next_at: datetime, now: datetime) -> int:
        """How many may go now."""
        ahead = max(0.0, (next_at - now).total_seconds())
        spare = (self.burst - 1) * self.interval - ahead
        return int(spare / self.interval + 1e-9) + 1 if spare >= -1e-6 else 0

    def opens_at(self, next_at: datetime) -> datetime:
        """From when on at least one may go."""
        return next_at - timedelta(seconds=(self.burst - 1) * self.interval)


@dataclass(frozen=True, slots=True)
class Health:
    """How a lane fares: the columns of its channel that the sender keeps."""

    enabled: bool = True
    failures: int = 0  # in a row; from TROUBLES on it counts the holds
    failing_since: datetime | None = None
    hold_until: datetime | None = None
    hold_reason: str = ""

    def held(self, now: datetime) -> bool:
        return self.hold_until is not None and self.hold_until > now

    @property
    def probing(self) -> bool:
        """Only one delivery at a time may find out whether it is well again."""
        return self.failures >= TROUBLES


@dataclass(slots=True)
class Happened:
    """What attempts in one lane came to since its health was last judged."""

    delivered: int = 0
    refused: int = 0  # the far side is well, but did not want the message
    troubled: int = 0  # the far side is not well
    trouble: str = ""  # what it said last
    retry_after: timedelta | None = None  # how long it asked to be left alone


def judge(health: Health, happened: Happened, now: datetime) -> Health:
    """The lane's health after what happened."""
    if happened.delivered:
        after = replace(health, failures=0, failing_since=None)
        if health.probing:
            after = replace(after, hold_until=None, hold_reason="")
    elif happened.refused:
        after = (
            replace(health, failures=0, hold_until=None, hold_reason="")
            if health.probing
            else replace(health, failures=0)
        )
    elif happened.troubled:
        after = _worse(health, happened, now)
    else:
        after = health
    if after.enabled and happened.retry_after is not None:
        until = now + happened.retry_after
        if after.hold_until is None or until > after.hold_until:
            after = replace(after, hold_until=until, hold_reason=f"asked to wait: {happened.trouble}")
    return after


def _worse(health: Health, happened: Happened, now: datetime) -> Health:
    since = health.failing_since or now
    if now - since >= SWITCHED_OFF_AFTER:
        # Whoever switches it on again gives it another three days.
        reason = f"switched off: no success since {since:%Y-%m-%d %H:%M} UTC; {happened.trouble}"
        return Health(enabled=False, hold_reason=reason)
    if health.held(now) and health.probing:
        return replace(health, failing_since=since)  # began before the hold: the same trouble, not a new one
    failures = health.failures + 1 if health.probing else min(health.failures + happened.troubled, TROUBLES)
    after = replace(health, failures=failures, failing_since=since)
    if not after.probing:
        return after
    hold = min(FIRST_HOLD * 2 ** min(failures - TROUBLES, 10), LONGEST_HOLD)
    return replace(after, hold_until=now + hold, hold_reason=f"held back after failures in a row: {happened.trouble}")


class Window:
    """How many deliveries of a lane this process lets be under way: follows the lane's health.

    It begins small, so that an endpoint that hangs from the start holds few slots; it grows with every success, so that
    a healthy one is at full speed after a few round trips.
    """

    def __init__(self) -> None:
        self.size = FIRST_WINDOW

    def delivered(self, *, most: int) -> None:
        self.size = min(self.size + 1, max(most, 1))

    def troubled(self) -> None:
        self.size = max(1, self.size // 2)
