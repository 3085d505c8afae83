"""A time as the outside sees it."""

from datetime import datetime


def time_of(moment: datetime | None) -> str | None:
    """A time as RFC 3339 in UTC."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None
