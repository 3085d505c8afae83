"""Pausing a channel: what is due for it waits, and nothing fails, until somebody resumes it.

A pause is a person's; a hold (lanes.py) is the sender's own and ends by itself; a disabled channel takes nothing more,
and what waited in it fails.
"""

from __future__ import annotations

from django.db.models import QuerySet
from django.db.models.functions import Now

from notifications.models import Channel


def pause(channels: QuerySet[Channel], reason: str = "") -> int:
    """Have nothing more sent by them; returns how many were not paused before.

    Attempts under way come to their end. `reason` is for whoever wonders; at most 200 characters are kept.
    """
    return channels.filter(paused_at=None).update(paused_at=Now(), pause_reason=reason[:200])


def resume(channels: QuerySet[Channel]) -> int:
    """Have what waits sent; returns how many were paused. Ring `notifications.deliver` afterwards.

    The days after which a failing channel switches itself off are counted anew: it could not succeed meanwhile.
    """
    return channels.filter(paused_at__isnull=False).update(paused_at=None, pause_reason="", failing_since=None)
