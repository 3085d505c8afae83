"""Rows that are due: claimed by one, leased by one, and found again when whoever had them is gone."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from events.models import Event
from project.due import DueQuerySet
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def events(n: int, *, seconds: float | None = -10) -> list[Event]:
    """Events that are due since (or in) so many seconds, the first one first."""
    now = timezone.now()
    return Event.objects.bulk_create(
        Event(
            source="/shop",
            event_id=str(number),
            type="note",
            time=now,
            due_at=None if seconds is None else now + timedelta(seconds=seconds, milliseconds=number),
        )
        for number in range(n)
    )


def rows() -> DueQuerySet[Event]:
    return Event.objects.all()


def in_thread(work: object) -> None:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def test_only_rows_whose_time_has_come_are_due() -> None:
    events(2)
    Event.objects.filter(event_id="1").update(due_at=timezone.now() + timedelta(seconds=60))
    assert [event.event_id for event in rows().due()] == ["0"]
    Event.objects.update(due_at=None)
    assert not rows().due().exists()


def test_a_claim_takes_the_oldest_first_up_to_its_limit() -> None:
    events(5)
    with transaction.atomic():
        assert [event.event_id for event in rows().claim(3)] == ["0", "1", "2"]


def test_what_one_has_claimed_another_passes_over() -> None:
    events(5)
    seen: list[str] = []

    def other() -> None:
        with transaction.atomic():
            seen.extend(event.event_id for event in rows().claim(10))
        connection.close()

    with transaction.atomic():
        rows().claim(3)
        in_thread(other)
    assert seen == ["3", "4"]


def test_a_claim_that_is_rolled_back_is_due_again() -> None:
    events(3)
    with pytest.raises(RuntimeError), transaction.atomic():
        claimed = rows().claim(3)
        Event.objects.filter(pk__in=[event.pk for event in claimed]).update(due_at=None)
        raise RuntimeError
    assert rows().due().count() == 3


def test_many_claimers_do_every_row_once() -> None:
    events(200)
    done: Counter[str] = Counter()

    def work(_: int) -> None:
        while True:
            with transaction.atomic():
                claimed = rows().claim(7)
                done.update(event.event_id for event in claimed)
                Event.objects.filter(pk__in=[event.pk for event in claimed]).update(due_at=None)
            if not claimed:
                connection.close()
                return

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    # A claimer may find every row that is left in others' hands, and end; nobody does one twice.
    assert set(done.values()) == {1}
    assert len(done) == 200


def test_a_lease_pushes_the_row_away_and_counts_the_attempt() -> None:
    (event,) = events(1)
    assert rows().lease(10, seconds=30) == [(event.pk, 1)]
    assert rows().lease(10, seconds=30) == []
    event.refresh_from_db()
    assert event.due_at is not None
    assert timedelta(seconds=25) < event.due_at - timezone.now() < timedelta(seconds=31)


def test_a_lease_that_runs_out_is_anothers_and_the_fence_keeps_the_first_one_out() -> None:
    (event,) = events(1)
    (mine,) = rows().lease(1, seconds=0.1)
    (theirs,) = wait_until(lambda: rows().lease(1, seconds=30), what="the end of the lease")
    assert (mine, theirs) == ((event.pk, 1), (event.pk, 2))
    assert rows().still_mine(*mine).update(due_at=None) == 0
    assert rows().still_mine(*theirs).update(due_at=None) == 1


def test_many_lessees_take_every_row_once_and_no_more_than_they_asked_for() -> None:
    events(200)

    def work(_: int) -> list[list[tuple[object, int]]]:
        taken = []
        while batch := rows().lease(7, seconds=60):
            taken.append(batch)
        connection.close()
        return taken

    with ThreadPoolExecutor(6) as pool:
        batches = [batch for taken in pool.map(work, range(6)) for batch in taken]
    assert max(map(len, batches)) <= 7
    assert Counter(pk for batch in batches for pk, _ in batch).most_common(1)[0][1] == 1
    assert {attempt for batch in batches for _, attempt in batch} == {1}


def test_the_backlog_is_as_old_as_its_oldest_row() -> None:
    assert rows().backlog_age() == 0.0
    events(3, seconds=60)
    assert rows().backlog_age() == 0.0
    Event.objects.filter(event_id="1").update(due_at=timezone.now() - timedelta(seconds=90))
    assert 89 < rows().backlog_age() < 95


def test_a_claim_reads_the_small_index_and_not_the_table() -> None:
    events(2000, seconds=None)
    events_due = Event.objects.filter(event_id__in=["1", "2"])
    events_due.update(due_at=timezone.now())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE events_event")
    with transaction.atomic():
        plan = rows().due().order_by("due_at").select_for_update(skip_locked=True, no_key=True)[:100].explain()
    assert "event_due" in plan
    assert "Seq Scan" not in plan
