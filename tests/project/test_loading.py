"""Times from PostgreSQL: read quickly, and the same as what psycopg and Django make of them."""

from datetime import UTC, datetime

import pytest
from django.db import DataError, connection


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31 12:00:00+00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:00.5+00", datetime(2026, 1, 31, 12, microsecond=500_000, tzinfo=UTC)),
        ("2026-01-31 12:00:00.000001+02", datetime(2026, 1, 31, 10, microsecond=1, tzinfo=UTC)),
        ("0001-01-01 00:00:00+00", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31 23:59:59.999999+00", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        (None, None),
    ],
)
@pytest.mark.django_db
def test_a_time_is_read_in_utc(text: str | None, moment: datetime | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [text])
        [(read,)] = cursor.fetchall()
    assert read == moment
    if read is not None:
        assert read.tzinfo is UTC


@pytest.mark.parametrize("text", ["infinity", "10000-01-01 00:00:00+00", "0001-01-01 00:00:00+00 BC"])
@pytest.mark.django_db
def test_what_python_cannot_hold_is_an_error_that_says_so(text: str) -> None:
    with connection.cursor() as cursor, pytest.raises(DataError, match="timestamp"):
        cursor.execute("SELECT %s::timestamptz", [text])
        cursor.fetchone()
