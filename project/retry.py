"""When to try again: pure decisions about attempts and delays."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from random import Random
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator

from project.durations import Duration, format_duration, parse_duration

JITTER = 0.2
"""A delay is made longer or shorter by up to this part of it, so that what failed together does not return together."""

LONGEST_RETRY_AFTER = timedelta(hours=24)


class RetryPolicy(BaseModel):
    """How a workflow step is retried: `attempts` in all, the first pause `delay`, each next one `factor` times longer.

    >>> policy = RetryPolicy.model_validate({"attempts": 5, "delay": "10s", "factor": 3, "max_delay": "1m"})
    >>> [policy.delay_after(attempt) and str(policy.delay_after(attempt)) for attempt in (1, 2, 3, 4, 5)]
    ['0:00:10', '0:00:30', '0:01:00', '0:01:00', None]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(3, ge=1, le=100)
    delay: Duration = timedelta(seconds=10)
    factor: float = Field(2, ge=1, le=100, allow_inf_nan=False)
    max_delay: Duration = timedelta(days=1)

    @model_validator(mode="after")
    def _longest_is_longest(self) -> Self:
        if self.max_delay < self.delay:
            raise ValueError(
                f"max_delay {format_duration(self.max_delay)} is shorter than delay {format_duration(self.delay)}"
            )
        return self

    def delay_after(self, attempt: int) -> timedelta | None:
        """How long to wait after attempt number `attempt` (from 1) failed; None when the attempts are used up."""
        if attempt >= self.attempts:
            return None
        seconds = self.delay.total_seconds() * self.factor ** (attempt - 1)
        return timedelta(seconds=min(seconds, self.max_delay.total_seconds()))


class Schedule(RootModel[tuple[Duration, ...]]):
    """The pauses of a channel: the first stands before the first attempt, each next one after a failed attempt.

    The default is eight attempts in about 17 hours.

    >>> Schedule().attempts
    8
    >>> schedule = Schedule.model_validate(["0s", "10s", "2m"])
    >>> schedule.delay_after(0), schedule.delay_after(1), schedule.delay_after(3)
    (datetime.timedelta(0), datetime.timedelta(seconds=10), None)
    >>> schedule.delay_after(1, jitter=1.0), schedule.delay_after(1, retry_after=timedelta(minutes=1))
    (datetime.timedelta(seconds=12), datetime.timedelta(seconds=60))
    """

    model_config = ConfigDict(frozen=True)

    root: tuple[Duration, ...] = tuple(map(parse_duration, ("0s", "5s", "30s", "2m", "10m", "1h", "4h", "12h")))

    @field_validator("root")
    @classmethod
    def _some(cls, delays: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
        if not 1 <= len(delays) <= 100:
            raise ValueError(
                f"a retry schedule has 1 to 100 delays, this one {len(delays)}; for one attempt write [0s]"
            )
        return delays

    @property
    def attempts(self) -> int:
        """How often is tried in all."""
        return len(self.root)

    def delay_after(
        self, attempt: int, *, jitter: float | Random = 0.5, retry_after: timedelta | None = None
    ) -> timedelta | None:
        """How long to wait after attempt number `attempt` failed; None when the attempts are used up.

        `attempt` 0 means before the first one. `jitter` is a number from 0 to 1 (0.5: none) or where to draw it from.
        A `retry_after` that is longer than the delay wins, up to 24 hours.
        """
        if attempt >= self.attempts:
            return None
        draw = jitter.random() if isinstance(jitter, Random) else jitter
        delay = self.root[attempt] * (1 + JITTER * (2 * draw - 1))
        return max(delay, min(retry_after or timedelta(0), LONGEST_RETRY_AFTER))


def parse_retry_after(header: str | None, *, now: datetime) -> timedelta | None:
    """What a `Retry-After` header asks for (RFC 9110, 10.2.3: seconds or a date), at most 24 hours; None if unreadable.

    >>> now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    >>> parse_retry_after("120", now=now), parse_retry_after("Thu, 01 Jan 2026 12:00:30 GMT", now=now)
    (datetime.timedelta(seconds=120), datetime.timedelta(seconds=30))
    >>> parse_retry_after("later", now=now)
    """
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        # Longer numbers are no longer a time, and Python refuses to read very long ones.
        return min(timedelta(seconds=int(text[:9])), LONGEST_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:  # "-0000" and no zone at all both mean UTC
        until = until.replace(tzinfo=UTC)
    return min(max(until - now, timedelta(0)), LONGEST_RETRY_AFTER)
