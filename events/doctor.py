"""Whether the sources can verify who calls them."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.exceptions import ValidationError

from events.catalogue import hook
from events.models import Source
from events.sources import adapters
from project.doctor import Finding, examination


@examination
def sources() -> Iterator[Finding]:
    for row in Source.objects.order_by("name"):
        adapter = adapters.get(row.adapter)
        if adapter is None or adapter.webhooks:
            yield _examined(row)


def _examined(row: Source) -> Finding:
    name = f"source {row.name}"
    if not row.enabled:
        return Finding(name, note="disabled")
    try:
        row.full_clean()
    except ValidationError:
        return Finding(name, note=f"see Source {row.name}")  # `configuration` says what is wrong with it
    if problem := hook(row).problem:
        return Finding(
            name, wrong=f"it can verify nothing: {problem}", remedy="Set what is missing where web runs, or change it."
        )
    return Finding(name, note="the previous secret is valid, too" if row.previous_secret else "")
