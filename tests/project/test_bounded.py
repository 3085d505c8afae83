"""Counting ends at a bound, and says so."""

from __future__ import annotations

import pytest
from django.utils import timezone

from events.models import Event
from project.bounded import count, groups

pytestmark = pytest.mark.django_db


def store(*types: str) -> list[Event]:
    now = timezone.now()
    return [
        Event.objects.create(source="/shop", event_id=str(number), type=kind, time=now)
        for number, kind in enumerate(types)
    ]


def test_a_count_ends_at_the_bound() -> None:
    store(*"aaaaa")
    assert [str(count(Event.objects.all(), most)) for most in (4, 5, 6)] == ["4+", "5", "5"]
    assert not count(Event.objects.filter(type="b"))


def test_groups_are_the_largest_first_with_their_first_row() -> None:
    stored = store("a", "b", "b", "c", "b", "a")
    rows = Event.objects.order_by("-uid")
    assert [(group.value, str(group.count), group.first) for group in groups(rows, "type")] == [
        ("b", "3", stored[4].pk),
        ("a", "2", stored[5].pk),
        ("c", "1", stored[3].pk),
    ]
    assert [(group.value, str(group.count)) for group in groups(rows, "type", most=3)] == [
        ("a", "1+"),
        ("b", "1+"),
        ("c", "1+"),
    ]
