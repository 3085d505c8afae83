"""Gates: what runs that name the same key share, locked while it is changed."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection

from workflows.models import Gate


def hold(keys: Iterable[str]) -> dict[str, Gate]:
    """The gates with these keys, locked until the end of the transaction; one that is not there yet is made.

    Locked in the order of their keys, so that two batches do not wait for each other in a circle.
    """
    missing = sorted(set(keys))
    held: dict[str, Gate] = {}
    while missing:  # again for one that was removed while we waited for it
        with connection.cursor() as cursor:
            # The ORM's get_or_create takes a gate at a time.
            cursor.execute(
                "INSERT INTO workflows_gate (key, value) SELECT key, '{}' FROM unnest(%s::text[]) AS given (key) "
                "ON CONFLICT DO NOTHING",
                [missing],
            )
        held |= {gate.key: gate for gate in Gate.objects.filter(key__in=missing).order_by("key").select_for_update()}
        missing = [key for key in missing if key not in held]
    return held


def remove_unneeded(limit: int) -> int:
    """Remove up to `limit` gates whose time has come, in the caller's transaction; returns how many."""
    keys = [gate.key for gate in Gate.objects.claim(limit)]
    Gate.objects.filter(key__in=keys).delete()
    return len(keys)
