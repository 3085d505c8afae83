"""What /metrics shows of consumers and dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from events.dead_letters import waiting
from events.feeds import consumed
from events.models import Source
from project.gauges import gauges


@gauges
def consumers() -> Iterator[Metric]:
    up = GaugeMetricFamily("carillon_consumer_up", "Processes that consume the source now.", labels=["source"])
    lag = GaugeMetricFamily("carillon_consumer_lag", "Messages that wait at the broker.", labels=["source"])
    idle = GaugeMetricFamily(
        "carillon_consumer_idle_seconds", "How long ago a message of the source was stored.", labels=["source"]
    )
    delay = GaugeMetricFamily(
        "carillon_consumer_delay_seconds",
        "From the broker to the commit, of the last batch's oldest.",
        labels=["source"],
    )
    told = consumed()
    for name in Source.of_brokers().filter(enabled=True).values_list("name", flat=True):
        feed = told.get(name)
        up.add_metric([name], feed.connected if feed else 0)
        if feed and feed.lag is not None:
            lag.add_metric([name], feed.lag)
        if feed and feed.last is not None:
            idle.add_metric([name], max(0.0, time.time() - feed.last))
        if feed and feed.delay is not None:
            delay.add_metric([name], feed.delay)
    yield from (up, lag, idle, delay)


@gauges
def dead_letters() -> Iterator[Metric]:
    letters = GaugeMetricFamily("carillon_dead_letters", "Messages that could not be events.", labels=["source"])
    for name, number in waiting().items():
        letters.add_metric([name], number)
    yield letters
