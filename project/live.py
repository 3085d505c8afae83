"""Pages that follow along: what they show is looked at again for as long as something is under way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

SOON: Final = timedelta(seconds=30)
OFTEN: Final = 1  # seconds, while something is due soon
SELDOM: Final = 10  # while all that is under way waits for a time that is far, or for somebody


@dataclass(frozen=True, slots=True)
class Live:
    """`seen` names what a page shows, `every` says after how many seconds it looks again; None: all is over."""

    seen: str
    every: int | None


def live(story: Any, dues: Iterable[datetime | None], now: datetime) -> Live:
    """How a page with this story follows along. `dues`: of each thing under way, when it goes on (None: who knows)."""
    seen = hashlib.sha256(orjson.dumps(story, default=str)).hexdigest()[:16]
    return Live(seen, _pace(list(dues), now))


def _pace(dues: list[datetime | None], now: datetime) -> int | None:
    """The seconds until the next look.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> _pace([], noon), _pace([noon, None], noon), _pace([None, noon + timedelta(hours=1)], noon)
    (None, 1, 10)
    """
    if not dues:
        return None
    return OFTEN if any(due is not None and due <= now + SOON for due in dues) else SELDOM
