"""Times that come again, as crontab writes them: `0 2 * * *`, in a time zone with its summer time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week")
RANGES: Final = ("0 to 59", "0 to 23", "1 to 31, or L for the last", "1 to 12, or JAN to DEC", "0 to 7, or SUN to SAT")
_EXAMPLES: Final = (
    "write five fields: minute, hour, day of the month, month, day of the week; for example "
    "`0 2 * * *` (every day at 2:00), `*/15 * * * *` (every quarter of an hour), `0 9 * * MON-FRI`"
)
_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MOST_COUNTED: Final = 1000


class CronError(ValueError):
    """The text is not a cron expression that ever has a time, and says what is right."""


class Cron:
    """The times that an expression means in a time zone. All times that go in and out know their zone; out comes UTC.

    Where clocks are set forward, a time of day that is left out counts at the next minute that there is; where they
    are set back, one that is there twice counts the first time. An expression whose minute or hour begins with `*`
    follows the time that passes instead: every hour is every hour. So Debian's cron does it, and `cronsim`.
    """

    def __init__(self, text: str, zone: ZoneInfo) -> None:
        """Raises CronError."""
        self.text, self.zone = text, zone
        _check(text)

    def next(self, after: datetime) -> datetime:
        """The first time after this one."""
        # Where clocks are set back, the hour that is there twice would lead back into its first round.
        return next(time for time in self._from(after) if time > after)

    def upcoming(self, after: datetime, number: int) -> list[datetime]:
        """The next times, in order."""
        found = [after]
        while len(found) <= number:
            found.append(self.next(found[-1]))
        return found[1:]

    def latest(self, first: datetime, until: datetime) -> datetime:
        """The last time not after `until`; `first` is one of them. Some dozens of steps, however many there are."""
        low, high = first, until
        while (following := self.next(low)) <= high:
            middle = low + (high - low) / 2
            later = self.next(middle)
            if later <= high:
                low = later
            else:  # nothing after the middle
                low, high = following, middle
        return low

    def count(self, first: datetime, before: datetime) -> int:
        """How many times there are from `first`, which is one, to before that one; at most 1,000 are counted."""
        n = 0
        while first < before and n < _MOST_COUNTED:
            first, n = self.next(first), n + 1
        return n

    def _from(self, after: datetime) -> Iterator[datetime]:
        for time in CronSim(self.text, after.astimezone(self.zone)):
            yield time.astimezone(UTC)


def zone_named(name: str) -> ZoneInfo:
    """The time zone. Raises LookupError, whose message says what is right."""
    if name not in available_timezones():
        close = get_close_matches(name, available_timezones(), n=1)
        hint = f'did you mean "{close[0]}"?' if close else "write for example UTC or Europe/London"
        raise LookupError(f'unknown time zone "{name}"; {hint}')
    return ZoneInfo(name)


def _check(text: str) -> None:
    if nickname := _NICKNAMES.get(text.strip().lower()):
        raise CronError(f'"{text}" is written `{nickname}` here')
    fields = text.split()
    if len(fields) != len(FIELDS):
        raise CronError(f'"{text}" has {len(fields)} fields; {_EXAMPLES}')
    for index, field in enumerate(fields):
        alone = ["*"] * len(FIELDS)
        alone[index] = field
        try:
            CronSim(" ".join(alone), datetime(2000, 1, 1, tzinfo=UTC))
        except (CronSimError, AssertionError) as error:
            raise CronError(
                f'"{field}" is no {FIELDS[index]}: write {RANGES[index]}, or `*`, `*/5`, `1-5`, `1,15`'
            ) from error
    try:
        comes = next(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)), None)
    except CronSimError:  # each field is right by itself
        comes = None
    if comes is None:
        raise CronError(f'"{text}" never comes: there is no such day in these months')
