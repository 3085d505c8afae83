"""What was counted minute by minute, for charts: a few rows a minute, kept for a day.

`metrics.flush` adds to the minute that it is, in a statement of its own. Prometheus keeps history better and longer;
this is for whoever opens the admin and has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import orjson
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from project.identifiers import EPOCH
from project.models import Minute

Counted: TypeAlias = tuple[str, Mapping[str, str], int]  # a metric, its labels, and how many


@dataclass(frozen=True)
class Line:
    """One line of a chart: the counts of a metric, of those whose labels have these values."""

    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def counts(self, metric: str, labels: Mapping[str, str]) -> bool:
        return metric == self.metric and self.labels.items() <= labels.items()


LINES: Final = {
    "accepted": Line("carillon_events_accepted_total"),
    "matched": Line("carillon_verdicts_total", {"verdict": "matched"}),
    "runs": Line("carillon_runs_total"),
    "failed runs": Line("carillon_runs_total", {"state": "failed"}),
    "deliveries": Line("carillon_deliveries_total", {"outcome": "delivered"}),
    "failed deliveries": Line("carillon_deliveries_total", {"outcome": "failed"}),
}


@dataclass(frozen=True)
class Period:
    """A time up to now that a chart shows, and what one bar of it stands for."""

    length: timedelta
    step: timedelta

    @property
    def bars(self) -> int:
        return self.length // self.step


PERIODS: Final = {
    "hour": Period(timedelta(hours=1), timedelta(minutes=1)),
    "day": Period(timedelta(days=1), timedelta(minutes=15)),
}
KEPT: Final = timedelta(days=1, minutes=30)


@dataclass(frozen=True)
class Series:
    """What was counted in each step of a period, the oldest first; the last step is not over yet."""

    starts: Sequence[datetime]
    values: Mapping[str, Sequence[int]]  # by the names of LINES


def add(counted: Iterable[Counted]) -> None:
    """Add to this minute, inside the caller's transaction. Does nothing where nothing of LINES was counted."""
    sums: dict[str, int] = {}
    for metric, labels, n in counted:
        for name, line in LINES.items():
            if line.counts(metric, labels):
                sums[name] = sums.get(name, 0) + n
    if not sums:
        return
    with connection.cursor() as cursor:
        # The ORM's bulk_create cannot add to what is there. In one order, so that no two processes wait for each other.
        cursor.execute(
            "INSERT INTO project_minute AS known (minute, name, value) "
            "SELECT date_trunc('minute', now()), name, n "
            "FROM jsonb_to_recordset(%s::jsonb) AS counted (name text, n bigint) ORDER BY name "
            "ON CONFLICT ON CONSTRAINT one_row_per_minute_and_name DO UPDATE SET value = known.value + excluded.value",
            [orjson.dumps([{"name": name, "n": n} for name, n in sums.items()]).decode()],
        )


def series(period: Period) -> Series:
    """What was counted up to now. One query of at most a day of minutes."""
    last = _floor(timezone.now(), period.step)
    starts = [last - period.step * back for back in reversed(range(period.bars))]
    place = {start: index for index, start in enumerate(starts)}
    values = {name: [0] * period.bars for name in LINES}
    with connection.cursor() as cursor:
        cursor.execute(  # the ORM has no date_bin
            "SELECT date_bin(make_interval(secs => %s), minute, 'epoch') AS start, name, sum(value)::bigint "
            "FROM project_minute WHERE minute >= %s GROUP BY start, name",
            [period.step.total_seconds(), starts[0]],
        )
        for start, name, n in cursor.fetchall():
            if name in values and start in place:
                values[name][place[start]] = n
    return Series(starts, values)


def forget() -> None:
    """Delete what is older than the charts."""
    Minute.objects.filter(minute__lt=Now() - KEPT).delete()


def _floor(moment: datetime, step: timedelta) -> datetime:
    """
    >>> _floor(EPOCH + timedelta(hours=10, minutes=44), timedelta(minutes=15)).strftime("%H:%M")
    '10:30'
    """
    return moment - (moment - EPOCH) % step
