"""What a recipient wants to hear, when, and where: pure answers from their row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from notifications.channels import channel_types


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


def recipient_problems(
    *, addresses: Any, time_zone: str, preferences: Any, quiet_hours: Any
) -> Iterable[tuple[str, str]]:
    """What is wrong with a recipient somebody wants to save, as (field path, message) pairs."""
    yield from _address_problems(addresses)
    try:
        ZoneInfo(time_zone)
    except (ValueError, KeyError, OSError):
        yield "time_zone", f'unknown time zone "{time_zone}"; write for example Europe/London'
    if not isinstance(preferences, dict):
        yield "preferences", 'must be an object like {"marketing": {"email": false}}'
    else:
        for category, answers in preferences.items():
            if not isinstance(answers, dict) or not all(isinstance(answer, bool) for answer in answers.values()):
                yield f"preferences.{category}", 'must be an object of kinds with true or false, like {"email": false}'
    if quiet_hours and not _are_hours(quiet_hours):
        yield "quiet_hours", 'must be an object like {"from": "22:00", "to": "07:00"}'


def _address_problems(addresses: Any) -> Iterable[tuple[str, str]]:
    if not isinstance(addresses, dict):
        yield "addresses", 'must be an object like {"email": "ada@example.com"}'
        return
    kinds = sorted(kind for kind, type_ in channel_types.items() if type_.address is not None)
    for kind, address in addresses.items():
        if kind not in kinds:
            yield f"addresses.{kind}", f"no kind of channel that takes addresses; these do: {', '.join(kinds)}"
        elif not isinstance(address, str):
            yield f"addresses.{kind}", "must be text"
        else:
            try:
                channel_types[kind].check_address(address)
            except ValueError as error:
                yield f"addresses.{kind}", str(error)


def _are_hours(quiet_hours: Any) -> bool:
    try:
        edges = [time.fromisoformat(quiet_hours[edge]) for edge in ("from", "to")]
        return len(quiet_hours) == len(edges)
    except (KeyError, TypeError, ValueError):
        return False
