"""Reading large tables in a request: never for long, and never all of a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import OperationalError, connection, models, transaction

SLOWEST: Final = 2000  # milliseconds that one statement may take


class Busy(OperationalError):
    """PostgreSQL did not answer in time. Trying again later may help."""


@contextmanager
def reading() -> Iterator[None]:
    """A short transaction that cannot write, and whose statements are ended when they take long. Raises Busy."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(_LOCAL, [str(SLOWEST)])
            yield
            # Nothing was written. What was set ends with that, also where this is a part of a larger transaction.
            transaction.set_rollback(True)
    except OperationalError as error:
        raise Busy("PostgreSQL did not answer in time.") from error


# Plans are weighed by the rows that they look at, not by pages. By pages PostgreSQL would look for the newest events of
# a type along the primary key, expecting to meet the type soon; of one that fell silent last month it meets none, and
# goes on for seconds where the index with the type takes a millisecond.
_LOCAL: Final = """
SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true),
    set_config('seq_page_cost', '0', true), set_config('random_page_cost', '0', true)
"""


def values_of(model: type[models.Model], column: str, most: int | None = None) -> list[str]:
    """The values that a column of text has, sorted: the first `most` of them, or all. An index has to begin with it.

    One look into the index for each value, where DISTINCT would read every row.
    """
    name = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(_VALUES.format(table=name(model._meta.db_table), column=name(column)), [most])
        return [value for (value,) in cursor.fetchall()]


_VALUES: Final = """
WITH RECURSIVE found (value) AS (
    (SELECT {column} FROM {table} ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (SELECT {column} FROM {table} WHERE {column} > found.value ORDER BY {column} LIMIT 1)
    FROM found WHERE found.value IS NOT NULL)
SELECT value FROM found WHERE value IS NOT NULL LIMIT %s
"""
