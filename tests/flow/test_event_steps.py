"""Events that steps wait for and emit, and events by the clock, in real processes, with the examples as they stand."""

from __future__ import annotations

from datetime import timedelta

import pytest
import requests
from django.utils import timezone

from events.models import ApiKey, Event, EventWait, Schedule, Source, Subscription
from project.scopes import Scope
from tests.live import Live, wait_until
from tests.sinks import HttpSink
from workflows.models import Record, Run, RunState, StepRun, StepState
from workflows.publishing import publish

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]


@pytest.fixture
def shop(live: Live, http_sink: HttpSink) -> Shop:
    live.environment |= {"INBOX_SLACK_URL": http_sink.url("/slack")}
    live.manage("apply", "examples")
    live.start("web", "worker", "performer", "sender", "clock")
    _, key = ApiKey.issue(Source.objects.get(name="local"), "flow", list(Scope.values))
    live.wait_ready()
    return Shop(live.url, key)


class Shop:
    """Who sends parcels."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.headers = f"{url}/api/v1/events", {"Authorization": f"Bearer {key}"}

    def tell(self, *events: tuple[str, str]) -> None:
        body = [{"type": type_, "data": {"parcel": parcel}} for type_, parcel in events]
        assert requests.post(self.url, json=body, headers=self.headers, timeout=30).status_code == 202


def test_parcels_that_arrive_and_one_that_is_late(shop: Shop, live: Live, http_sink: HttpSink) -> None:
    parcels = [f"P-{n}" for n in range(20)]
    for parcel in parcels[:10]:
        shop.tell(("parcel.sent", parcel), ("parcel.arrived", parcel))  # as close together as can be
    shop.tell(*(("parcel.sent", parcel) for parcel in [*parcels[10:], "late"]))
    waiting = StepRun.objects.filter(state=StepState.WAITING)
    wait_until(lambda: waiting.count() == 11, seconds=60, what="the steps that wait")
    live.kill("worker")
    shop.tell(*(("parcel.arrived", parcel) for parcel in parcels[10:]))
    live.start("worker")
    wait_until(lambda: Record.objects.filter(collection="parcels").count() == 20, seconds=60, what="20 parcels")
    assert {key for (key,) in Record.objects.values_list("key")} == set(parcels)
    assert EventWait.objects.count() == 1

    # Three days later.
    step = waiting.get()
    StepRun.objects.filter(pk=step.pk).update(due_at=timezone.now())
    Run.objects.filter(pk=step.run_id).update(due_at=timezone.now())
    [told] = http_sink.wait_for(1, "/slack", seconds=60)
    assert b"The parcel late is late" in told.body
    assert Event.objects.get(type="parcel.late").depth == 1
    ended = Run.objects.exclude(state=RunState.SUCCEEDED)
    wait_until(lambda: not ended.exists(), seconds=60, what="the end of all runs")
    assert not EventWait.objects.exists()


def test_a_wait_of_a_second_and_a_schedule_come_by_the_clock(shop: Shop, live: Live, http_sink: HttpSink) -> None:
    version, _ = publish(
        "name: short\nsteps:\n  - {id: w, action: event.wait, with: {type: parcel.arrived, timeout: 1s}}\n"
    )
    Subscription.objects.filter(name="sent-parcels").update(workflow=version.workflow)
    shop.tell(("parcel.sent", "P-1"))
    ended = StepRun.objects.filter(state=StepState.SUCCEEDED)
    wait_until(ended.exists, seconds=60, what="the end of the wait")
    assert ended.get().output == {"outcome": "timed_out"}

    live.valkey.stop()  # nobody hears a bell: the clock does it
    Schedule.objects.update(due_at=timezone.now() - timedelta(minutes=1), cron="* * * * *")
    wait_until(lambda: Event.objects.filter(type="day.began").exists(), seconds=60, what="the schedule's event")
    live.valkey.start()
    [told] = http_sink.wait_for(1, "/slack", seconds=60)
    assert b"Good morning" in told.body
