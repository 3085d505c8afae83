"""Counts that end at a bound: "1,000+" says enough, and costs the same at any size of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import QuerySet

MOST: Final = 1_000


@dataclass(frozen=True)
class Count:
    """So many were counted; `more`: and then the counting ended.

    >>> f"{Count(12)}, {Count(1000, more=True)}"
    '12, 1,000+'
    """

    n: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.n:,}+" if self.more else f"{self.n:,}"

    def __bool__(self) -> bool:
        return self.n > 0


def count(rows: QuerySet[Any], most: int = MOST) -> Count:
    """How many rows there are, up to `most`. An index has to lead to them."""
    n = rows.order_by()[: most + 1].count()
    return Count(min(n, most), more=n > most)


@dataclass(frozen=True)
class Group:
    """Rows that have a value in common."""

    value: Any
    count: Count
    first: Any  # the primary key of the first of them


def groups(rows: QuerySet[Any], by: str, most: int = MOST) -> Sequence[Group]:
    """The first `most` of these rows (give them an order) by their value of `by`, the largest group first."""
    found = list(rows.values_list(by, "pk")[: most + 1])
    more, found = len(found) > most, found[:most]
    first: dict[Any, Any] = {}
    for value, pk in found:
        first.setdefault(value, pk)
    numbers = Counter(value for value, _ in found).most_common()
    return [Group(value, Count(n, more=more), first[value]) for value, n in numbers]
