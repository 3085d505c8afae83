"""Compiled configuration is made again after every change, and never kept from a change that may fail."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connection, transaction

from events.models import EventType, Source
from project.configuration import Cached, cached

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def names() -> Cached[frozenset[str]]:
    loads.clear()

    @cached
    def load() -> frozenset[str]:
        loads.append(1)
        return frozenset(EventType.objects.values_list("name", flat=True))

    return load


loads: list[int] = []


def test_it_is_made_once_while_nothing_changes(names: Cached[frozenset[str]]) -> None:
    EventType.objects.create(name="a")
    for _ in range(3):
        assert names() == {"a"}
    assert len(loads) == 1


def test_every_kind_of_change_is_seen(names: Cached[frozenset[str]]) -> None:
    assert names() == frozenset()
    made = EventType.objects.create(name="a")
    assert names() == {"a"}
    made.name = "b"
    made.save()
    assert names() == {"b"}
    EventType.objects.update(name="c")
    assert names() == {"c"}
    EventType.objects.bulk_create([EventType(name="d")])
    assert names() == {"c", "d"}
    with connection.cursor() as cursor:
        cursor.execute("UPDATE events_eventtype SET name = 'e' WHERE name = 'd'")
    assert names() == {"c", "e"}
    EventType.objects.filter(name="c").delete()
    assert names() == {"e"}
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE events_eventtype CASCADE")
    assert names() == frozenset()


def test_another_table_of_the_configuration_counts_too(names: Cached[frozenset[str]]) -> None:
    names()
    Source.objects.create(name="shop")
    names()
    assert len(loads) == 2


def test_nothing_is_kept_from_a_transaction_that_changed_something(names: Cached[frozenset[str]]) -> None:
    names()
    with pytest.raises(RuntimeError), transaction.atomic():
        EventType.objects.create(name="a")
        assert names() == {"a"}
        EventType.objects.create(name="b")
        assert names() == {"a", "b"}
        raise RuntimeError
    assert names() == frozenset()


def test_others_do_not_see_what_is_not_committed(names: Cached[frozenset[str]]) -> None:
    seen: list[frozenset[str]] = []

    def other() -> None:
        seen.append(names())
        connection.close()

    with transaction.atomic():
        EventType.objects.create(name="a")
        assert names() == {"a"}
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [frozenset()]
    assert names() == {"a"}


def test_a_change_undone_by_a_savepoint_leaves_the_transaction_as_it_was(names: Cached[frozenset[str]]) -> None:
    with transaction.atomic():
        with pytest.raises(RuntimeError), transaction.atomic():
            EventType.objects.create(name="a")
            raise RuntimeError
        assert names() == frozenset()
        loads.clear()
        names()
        assert not loads


def test_with_max_age_nobody_is_asked_for_so_long(names: Cached[frozenset[str]]) -> None:
    assert names() == frozenset()
    EventType.objects.create(name="a")
    assert names(max_age=60) == frozenset()
    assert names(max_age=0.000001) == {"a"}
    EventType.objects.create(name="b")
    deadline = time.monotonic() + 3
    while names(max_age=0.2) != {"a", "b"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lost_counter_is_made_again(names: Cached[frozenset[str]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE project_revision")
    assert names() == frozenset()
    EventType.objects.create(name="a")
    assert names() == {"a"}
