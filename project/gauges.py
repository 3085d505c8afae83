"""What /metrics shows besides counters: measured when it is asked.

An app adds what it knows in a module `gauges.py`:

    @gauges
    def disks() -> Iterator[Metric]:
        yield GaugeMetricFamily("disk_used_ratio", "How full it is.", 0.97)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from django.utils.module_loading import autodiscover_modules
from prometheus_client.core import Metric

Measure: TypeAlias = Callable[[], Iterator[Metric]]

_measures: list[Measure] = []


def gauges(measure: Measure) -> Measure:
    """Have `measure` called whenever /metrics is asked."""
    if measure not in _measures:
        _measures.append(measure)
    return measure


def measured() -> Iterator[Metric]:
    """Everything. Raises DatabaseError."""
    autodiscover_modules("gauges")
    for measure in _measures:
        yield from measure()
