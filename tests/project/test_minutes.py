"""What charts show: counted minute by minute, by all processes, and forgotten after a day."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from project import metrics, minutes
from project.clock import Clock
from project.minutes import PERIODS
from project.models import Minute
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def counted() -> dict[str, int]:
    totals: dict[str, int] = {}
    for name, value in Minute.objects.values_list("name", "value"):
        totals[name] = totals.get(name, 0) + value
    return totals


def at(moment: datetime, name: str, value: int) -> None:
    Minute.objects.create(minute=moment.replace(second=0, microsecond=0), name=name, value=value)


def test_what_has_a_line_is_added_to_its_minute_and_nothing_else_is() -> None:
    for _ in range(2):
        metrics.count("carillon_events_accepted_total", 3, source="/shop")
        metrics.count("carillon_events_accepted_total", 2, source="/till")
        metrics.count("carillon_verdicts_total", 4, verdict="matched")
        metrics.count("carillon_verdicts_total", 9, verdict="filtered")
        metrics.count("carillon_runs_total", 5, workflow="a", state="succeeded")
        metrics.count("carillon_runs_total", 1, workflow="b", state="failed")
        metrics.count("carillon_deliveries_total", 6, channel="a", outcome="delivered")
        metrics.count("carillon_deliveries_total", 7, channel="a", outcome="retry")
        metrics.count("carillon_bells_total", stage="events.route", outcome="rung")
        metrics.flush()
    assert counted() == {"accepted": 10, "matched": 8, "runs": 12, "failed runs": 2, "deliveries": 12}
    assert Minute.objects.count() <= 2 * 5  # a minute may have begun meanwhile


def test_a_flush_takes_two_statements_however_much_was_counted() -> None:
    metrics.flush()
    for number in range(50):
        metrics.count("carillon_deliveries_total", channel=str(number), outcome="delivered")
        metrics.count("carillon_runs_total", workflow=str(number), state="failed")
    with CaptureQueriesContext(connection) as queries:
        metrics.flush()
    assert len([query for query in queries if query["sql"].startswith("INSERT")]) == 2
    assert counted() == {"deliveries": 50, "runs": 50, "failed runs": 50}


def test_threads_add_up_and_do_not_wait_for_each_other() -> None:
    def work(names: list[str]) -> None:
        for _ in range(40):
            with_labels: list[minutes.Counted] = [
                (minutes.LINES[name].metric, minutes.LINES[name].labels, 1) for name in names
            ]
            minutes.add(with_labels)
        connection.close()

    names = ["accepted", "matched", "deliveries"]
    threads = [threading.Thread(target=work, args=[order]) for order in (names, names[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted() == {"accepted": 80, "matched": 80, "deliveries": 80}


def test_an_hour_has_a_bar_for_each_minute_up_to_now() -> None:
    now = timezone.now()
    at(now, "accepted", 5)
    at(now - timedelta(minutes=10), "accepted", 7)
    at(now - timedelta(minutes=70), "accepted", 11)
    series = minutes.series(PERIODS["hour"])
    assert len(series.starts) == len(series.values["accepted"]) == 60
    assert series.starts[-1] <= timezone.now() < series.starts[-1] + timedelta(minutes=1)
    assert sum(series.values["accepted"]) == 12
    assert series.values["accepted"].index(7) < series.values["accepted"].index(5)
    assert sum(series.values["runs"]) == 0


def test_a_day_has_a_bar_for_each_quarter_of_an_hour() -> None:
    quarter = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    for minute in range(30):
        at(quarter + timedelta(minutes=minute), "runs", 2)
    series = minutes.series(PERIODS["day"])
    assert len(series.starts) == 96
    assert {start.minute % 15 for start in series.starts} == {0}
    place = series.starts.index(quarter)
    assert list(series.values["runs"][place : place + 3]) == [30, 30, 0]


def test_the_clock_forgets_what_no_chart_shows(redis_url: str) -> None:
    now = timezone.now()
    at(now - timedelta(hours=23), "accepted", 1)
    at(now - timedelta(hours=30), "accepted", 1)
    clock = Clock()

    def run() -> None:
        clock.run()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: Minute.objects.count() == 1, what="the old minute is gone")
    finally:
        clock.stop.set()
        thread.join()


def test_what_cannot_be_added_to_the_minute_is_not_added_to_the_counter_either() -> None:
    metrics.flush()
    metrics.count("carillon_events_accepted_total", 3, source="/shop")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE project_minute RENAME TO gone")
    try:
        with pytest.raises(Exception, match="project_minute"):
            metrics.flush()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO project_minute")
    metrics.flush()
    assert counted() == {"accepted": 3}
