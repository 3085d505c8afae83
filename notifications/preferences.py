"""What a recipient wants to hear, and when: pure answers from their row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo


def wants(preferences: Mapping[str, Any], category: str, kind: str) -> bool:
    """Whether notifications of this category may come by this kind of channel: yes, unless they said no.

    >>> said = {"marketing": {"email": False}}
    >>> wants(said, "marketing", "email"), wants(said, "", "email")
    (False, True)
    """
    answers = preferences.get(category)
    return not isinstance(answers, Mapping) or answers.get(kind) is not False


def quiet_until(quiet_hours: Mapping[str, Any], time_zone: str, now: datetime) -> datetime | None:
    """When the quiet hours end that `now` falls into, or None. What cannot be read keeps nothing back.

    >>> night = {"from": "22:00", "to": "07:00"}
    >>> quiet_until(night, "Europe/Berlin", datetime.fromisoformat("2026-01-10T22:30:00+00:00")).isoformat()
    '2026-01-11T07:00:00+01:00'
    >>> quiet_until(night, "Europe/Berlin", datetime.fromisoformat("2026-01-10T12:00:00+00:00"))
    """
    try:
        zone = ZoneInfo(time_zone)
        begin, end = (time.fromisoformat(quiet_hours[edge]) for edge in ("from", "to"))
    except (KeyError, TypeError, ValueError, OSError):  # OSError: a time zone's name that is a directory of zones
        return None
    local = now.astimezone(zone)
    if begin <= end:
        ends_on, quiet = local.date(), begin <= local.time() < end
    else:  # over midnight
        quiet = local.time() >= begin or local.time() < end
        ends_on = local.date() + timedelta(days=local.time() >= begin)
    return datetime.combine(ends_on, end, zone) if quiet else None
