"""The measurements, in the order in which they are made. Each one's docstring stands over its table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.bench import Bench
from benchmarks.findings import Findings
from benchmarks.measures import (
    admin,
    consume,
    graph,
    hanging,
    history,
    latency,
    limits,
    memory,
    reference,
    runs,
    subscriptions,
)

Measure = Callable[[Bench], Awaitable[Findings]]

MEASURES: dict[str, Measure] = {
    "reference": reference.measure,
    "limits": limits.measure,
    "consume": consume.measure,
    "latency": latency.measure,
    "hanging": hanging.measure,
    "subscriptions": subscriptions.measure,
    "runs": runs.measure,
    "graph": graph.measure,
    "history": history.measure,
    "admin": admin.measure,
    "memory": memory.measure,
}
