"""A time as the outside sees it, and as it writes it."""

from datetime import UTC, datetime
from typing import Final

from django.utils.dateparse import parse_datetime


def time_of(moment: datetime | None) -> str | None:
    """A time as RFC 3339 in UTC."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None


RFC3339: Final = "an RFC 3339 time with its offset, such as 2026-01-31T12:00:00Z"


def rfc3339(text: str) -> datetime | None:
    """The time in UTC (PostgreSQL knows no offset of 16 hours); None when it is none."""
    text = text.upper()
    try:
        moment = parse_datetime(text) if "T" in text else None
        return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
