"""The loop guard: how many runs and events led to something, and how many may."""

from __future__ import annotations

from typing import Final

MOST_DEPTH: Final = 20
DEPTH_ATTRIBUTE: Final = "carillondepth"
"""The extension attribute by which a published event carries it, so that it is known when the event comes in again."""


def too_deep(depth: int) -> str:
    """What the loop guard says of an event of this depth; "" when nothing."""
    if depth <= MOST_DEPTH:
        return ""
    return (
        f"the loop guard: {MOST_DEPTH} events led to this one, each emitted by what the one before it started. "
        "Does something emit what its own subscription hears?"
    )
