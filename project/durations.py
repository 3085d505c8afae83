"""Lengths of time as people write them: `30s`, `15m`, `2h`, `7d`, `1h30m`."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PATTERN = r"^(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d{1,6})?s)?$"
_FORM = re.compile(_PATTERN, re.ASCII)
_PART = re.compile(r"([\d.]+)([dhms])")
_LONGEST = timedelta(days=3650)  # far below where adding to a datetime overflows


def parse_duration(value: object) -> timedelta:
    """The length of time that `value` means: text, a whole number of seconds, or a timedelta.

    Raises ValueError for anything else, for negative lengths and for more than ten years.

    >>> parse_duration("1h30m")
    datetime.timedelta(seconds=5400)
    >>> parse_duration(45)
    datetime.timedelta(seconds=45)
    >>> parse_duration("soon")
    Traceback (most recent call last):
    ValueError: "soon" is not a duration; write for example 30s, 15m, 2h, 7d or 1h30m
    """
    if isinstance(value, timedelta):
        return _bounded(value.total_seconds(), value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _bounded(value, value)
    if isinstance(value, str) and value and _FORM.fullmatch(value):
        return _bounded(sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(value)), value)
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    raise ValueError(f"{shown} is not a duration; write for example 30s, 15m, 2h, 7d or 1h30m")


def format_duration(value: timedelta) -> str:
    """The shortest way to write it; `parse_duration` reads it back.

    >>> format_duration(timedelta(minutes=90)), format_duration(timedelta(0)), format_duration(timedelta(seconds=0.5))
    ('1h30m', '0s', '0.5s')
    """
    rest = value.days * 86400 + value.seconds
    parts = []
    for unit in "dhm":
        amount, rest = divmod(rest, _UNITS[unit])
        if amount:
            parts.append(f"{amount}{unit}")
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    if rest or fraction or not parts:
        parts.append(f"{rest}{fraction}s")
    return "".join(parts)


def in_short(value: timedelta) -> str:
    """About how long, as it is read best.

    >>> [in_short(timedelta(seconds=seconds)) for seconds in (0.0123, 1.26, 59.99, 3720, 200000)]
    ['12 ms', '1.3 s', '60.0 s', '1 h 2 min', '2 d 7 h']
    """
    seconds = max(value.total_seconds(), 0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    size, unit, smaller, rest = next(units for units in _UNITS_IN_SHORT if seconds >= units[0])
    small = int(seconds % size // smaller)
    return f"{int(seconds // size)} {unit}" + (f" {small} {rest}" if small else "")


_UNITS_IN_SHORT = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def _bounded(seconds: float, written: object) -> timedelta:
    if seconds < 0:
        raise ValueError(f"{written} is negative; a duration is 0s or longer")
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"{written} is too long; the longest duration is {format_duration(_LONGEST)}")
    return timedelta(seconds=seconds)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _PATTERN, "examples": ["30s", "15m", "2h", "7d", "1h30m"]}),
]
"""A pydantic field that takes what `parse_duration` takes and is written as text."""
