"""The sender as a real Celery worker."""

from __future__ import annotations

from uuid import uuid4

import pytest

from notifications.compose import Request, compose
from notifications.models import Attempt, Channel, Delivery
from tests.live import Live
from tests.sinks import Answer, HttpSink

pytestmark = pytest.mark.flow


def test_sigterm_lets_what_is_under_way_arrive_and_be_recorded(live: Live, http_sink: HttpSink) -> None:
    Channel.objects.create(name="ops", type="webhook", settings={"url": http_sink.url("/ops")})
    http_sink.answers["/ops"] = [Answer(delay=1.5)]
    compose([Request(uuid4(), ["channel:ops"], data={"n": n}) for n in range(20)])
    live.start("sender", "clock")
    http_sink.wait_for(5, seconds=40)
    live.stop("sender")
    sent = len(http_sink.requests)
    assert Delivery.objects.filter(state="delivered").count() == Attempt.objects.count() == sent < 20
    assert not Delivery.objects.filter(leased=True).exists()
