"""Rows that are due: who must be looked at, claimed so that nobody looks twice (DESIGN: docs/architecture.md)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Self, TypeVar

from django.db import connection, models
from django.db.models.functions import Now

from project import prepared

M = TypeVar("M", bound=models.Model)

LONGEST_WAIT: Final = timedelta(minutes=1)  # a row that was due for longer, and nobody took, is overdue
COUNTED: Final = 10_000  # overdue rows; it is enough to know that there are more


class DueQuerySet(models.QuerySet[M]):
    """Questions about `due_at`. NULL means that nobody has to look at the row."""

    def due(self) -> Self:
        """Rows whose time has come, by PostgreSQL's clock (no two machines agree on theirs)."""
        return self.filter(due_at__lte=Now())

    def any_due(self) -> bool:
        """Whether there is something to ring for."""
        return self.due().exists()

    def claim(self, limit: int) -> list[M]:
        """Lock up to `limit` due rows, oldest first, for work done inside the surrounding transaction.

        Rows that another transaction holds are passed over. A crash rolls back and the row is still due.
        """
        with prepared.queries():
            return list(self.due().order_by("due_at").select_for_update(skip_locked=True, no_key=True)[:limit])

    def lease(self, limit: int, *, seconds: float) -> list[tuple[Any, int]]:
        """Take up to `limit` due rows for work outside the database; returns (primary key, number of this attempt).

        Pushes `due_at` past the lease and counts the attempt, in one statement that commits by itself: a crash lets the
        row come due again. Record the outcome with `still_mine`.
        """
        table, pk = self.model._meta.db_table, self.model._meta.pk.column
        # The ORM has no UPDATE … FROM (SELECT … SKIP LOCKED) RETURNING, and two statements would be two round trips.
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                -- Materialized: a plan that asked again for every row would take more than the limit.
                WITH due AS MATERIALIZED (SELECT {pk} AS taken FROM {table} WHERE due_at <= now()
                                          ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
                UPDATE {table} SET due_at = now() + make_interval(secs => %s), attempts = attempts + 1
                FROM due WHERE {pk} = taken
                RETURNING {pk}, attempts
                """,
                [limit, seconds],
            )
            return [(key, attempt) for key, attempt in cursor.fetchall()]

    def still_mine(self, pk: Any, attempt: int) -> Self:
        """The row, unless its lease ran out and somebody else took it: the fence for recording an outcome."""
        return self.filter(pk=pk, attempts=attempt)

    def backlog_age(self) -> float:
        """Seconds the longest waiting due row has waited; 0.0 when nothing waits. One look into the due index."""
        waited = models.ExpressionWrapper(Now() - models.F("due_at"), output_field=models.DurationField())
        oldest = self.due().order_by("due_at").values_list(waited, flat=True).first()
        return oldest.total_seconds() if oldest else 0.0

    def overdue(self) -> int:
        """How many rows have been due for more than a minute without anybody taking them; at most COUNTED."""
        return self.filter(due_at__lt=Now() - LONGEST_WAIT)[:COUNTED].count()


class Due(models.Model):
    """A row that somebody may have to look at."""

    due_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True


def due_index(name: str) -> models.Index:
    """The index behind every claim: as small as the backlog, whatever the size of the table."""
    return models.Index(fields=["due_at"], condition=models.Q(due_at__isnull=False), name=name)
