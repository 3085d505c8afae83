"""Counters over threads, processes and failures."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from events.models import Event
from project import metrics
from project.models import Tally
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def value(name: str, **labels: str) -> int:
    return sum(Tally.objects.filter(name=name, labels=labels).values_list("value", flat=True))


def test_what_is_counted_is_written_by_itself() -> None:
    metrics.count("test_by_itself_total", 2, kind="a")
    metrics.count("test_by_itself_total", 3, kind="a")
    metrics.count("test_by_itself_total", kind="b")
    wait_until(lambda: value("test_by_itself_total", kind="a") == 5, what="a flush")
    assert value("test_by_itself_total", kind="b") == 1


def test_processes_and_threads_add_up() -> None:
    metrics.flush()

    def work() -> None:
        for _ in range(50):
            metrics.count("test_sum_total")
            metrics.flush()
        connection.close()

    connection.close()
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    assert value("test_sum_total") == 200


def test_a_child_does_not_write_what_its_parent_counted() -> None:
    metrics.count("test_inherited_total")
    connection.close()
    pid = os.fork()
    if pid == 0:
        try:
            metrics.flush()
            connection.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    metrics.flush()
    assert value("test_inherited_total") == 1


def test_what_cannot_be_written_is_kept() -> None:
    metrics.flush()
    metrics.count("test_kept_total", 7)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE project_tally RENAME TO gone")
    try:
        with pytest.raises(Exception, match="project_tally"):
            metrics.flush()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO project_tally")
    metrics.flush()
    assert value("test_kept_total") == 7


def test_prometheus_reads_counters_and_the_backlog(client: Client) -> None:
    metrics.count("carillon_events_accepted_total", 3, source='/a"b\\c\n')
    metrics.flush()
    now = timezone.now()
    Event.objects.create(source="/shop", event_id="1", type="note", time=now, due_at=now - timedelta(seconds=100))
    answer = client.get("/metrics")
    assert answer.status_code == 200
    text = answer.content.decode()
    assert 'carillon_events_accepted_total{source="/a\\"b\\\\c\\n"} 3.0' in text
    ages = {
        line.split('"')[1]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("carillon_backlog_age_seconds{")
    }
    assert ages.keys() >= {"events.route", "workflows.advance", "notifications.deliver"}
    assert 99 < ages["events.route"] < 110
    assert ages["workflows.advance"] == 0
