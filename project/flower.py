"""Where Flower, if it runs, shows the tasks that rows rang for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from django.conf import settings

MOST: Final = 20  # rows that one search names


def tasks_of(task: str, uid: str, others: Sequence[str] = ()) -> str:
    """The address of a search for the task that the row rang for, and for any that other rows rang for.

    Empty without settings.FLOWER_URL. A bell is rung for the first of many rows: Flower may know no task of this one.
    """
    if not settings.FLOWER_URL:
        return ""
    # Flower's page makes `name:…` of this parameter, and takes the rest of the search along.
    words = " OR ".join([f"{task} kwargs:{uid}", *(f"kwargs:{other}" for other in others[:MOST])])
    return f"{settings.FLOWER_URL.rstrip('/')}/tasks?name={quote(words)}"
