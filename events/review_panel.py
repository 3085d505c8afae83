"""What the panels that go through stored events have in common: over how many days, and how far they are."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest

from events.review import Review

PERIODS: Final = {1: "day", 7: "7 days", 30: "30 days"}


def chosen_days(request: HttpRequest) -> int:
    """Over how many days the person wants it; 0: none of those that are offered."""
    return next((days for days in PERIODS if request.POST.get("days") == str(days)), 0)


def progress(review: Review, days: int) -> dict[str, Any]:
    """What templates/facts/review.html shows."""
    return {"review": review, "period": PERIODS[days], "percent": int(review.progress * 100)}
