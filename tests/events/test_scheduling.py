"""A schedule's time makes an event: once, also when two look, and once after a long sleep."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from events import scheduling
from events.catalogue import FRESH
from events.models import Event, EventType, Schedule, Source
from project.apply import Outcome, Rejected, apply, read_files
from project.clock import Clock
from project.cron import Cron
from project.kinds import in_clear, kinds
from tests.events.conftest import ORDER, PAID, event_type

pytestmark = pytest.mark.django_db(transaction=True)

DOCUMENT = """\
kind: Schedule
name: nightly-report
cron: 0 2 * * *
time_zone: Europe/Berlin
event:
  type: report.due
  subject: nightly
  data:
    report: nightly
"""


def schedule(cron: str = "*/5 * * * *", *, due: datetime | None = None, **values: Any) -> Schedule:
    given: dict[str, Any] = {"name": "tick", "type": "tick", **values}
    EventType.objects.get_or_create(name=given["type"])
    made = Schedule(cron=cron, **given)
    made.full_clean()
    made.due_at = due or made.due_at
    made.save()
    return made


def ago(minutes: float) -> datetime:
    """A multiple of five minutes, at least so long ago."""
    moment = timezone.now() - timedelta(minutes=minutes)
    return moment.replace(minute=moment.minute // 5 * 5, second=0, microsecond=0)


def applied(text: str, tmp_path: Path) -> list[Any]:
    file = tmp_path / "schedules.yaml"
    file.write_text(text)
    return [change.outcome for change in apply(read_files([file]))]


def test_a_time_that_has_come_is_an_event_and_the_next_one_waits() -> None:
    made = schedule(due=ago(0), subject="s", data={"n": 1})
    tick = made.due_at
    assert tick is not None
    assert scheduling.fire_due() == {"schedules": 1}
    event = Event.objects.get()
    assert event.event_id == f"tick/{tick:%Y-%m-%dT%H:%M:%S}Z"
    assert (event.source, event.type, event.subject, event.data) == ("/carillon", "tick", "s", {"n": 1})
    assert (event.time, event.extensions, event.depth) == (tick, {"schedule": "tick", "missed": 0}, 0)
    made.refresh_from_db()
    assert made.due_at == tick + timedelta(minutes=5)
    assert made.last_event == event.uid
    assert scheduling.fire_due() == {}


def test_after_a_long_sleep_the_latest_time_makes_the_one_event() -> None:
    made = schedule(due=ago(60))
    scheduling.fire_due()
    event = Event.objects.get()
    assert timezone.now() - timedelta(minutes=5) < event.time <= timezone.now()
    assert made.due_at is not None
    assert event.extensions["missed"] == (event.time - made.due_at) / timedelta(minutes=5) in (12, 13)
    made.refresh_from_db()
    assert made.due_at > timezone.now()
    assert scheduling.fire_due() == {}


def test_a_batch_with_a_bad_one_fires_the_others() -> None:
    due = ago(0)
    event_type("order.paid", ORDER)
    for n in range(5):
        schedule(name=f"t-{n}", due=due)
    schedule(name="paid", type="order.paid", data=PAID, due=due)
    schedule(name="old", type="old", due=due)
    schedule(name="broken", due=due)
    Schedule.objects.filter(name="paid").update(data={"amount": "much"})
    Schedule.objects.filter(name="broken").update(cron="what?")
    EventType.objects.filter(name="old").update(retired=True)
    assert scheduling.fire_due() == {"schedules": 8, "failed": 3}
    assert Event.objects.count() == 5
    paid, old, broken = (Schedule.objects.get(name=name) for name in ("paid", "old", "broken"))
    assert 'data: "order_id" is a required property; data.amount: "much" is not of type "number"' in paid.error
    assert "the event type 'old' is retired" in old.error
    assert old.due_at == due + timedelta(minutes=5)
    assert '"what?" has 1 fields' in broken.error
    assert broken.due_at is None
    EventType.objects.filter(name="old").update(retired=False)
    Schedule.objects.filter(name="old").update(due_at=due)
    scheduling.fire_due()
    assert Schedule.objects.get(name="old").error == ""


def test_two_who_look_at_once_and_one_who_died_make_one_event() -> None:
    due = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for n in range(30):
        schedule("0 0 1 * *", name=f"t-{n}", due=due)

    def fire() -> None:
        scheduling.fire_due()
        connection.close()

    def both() -> None:
        threads = [threading.Thread(target=fire) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    both()
    assert Event.objects.count() == 30
    Schedule.objects.update(due_at=due)  # as if the first had died between two commits, which are one
    both()
    assert Event.objects.count() == 30
    assert set(Schedule.objects.values_list("due_at", flat=True)) == {Cron("0 0 1 * *", ZoneInfo("UTC")).next(due)}


def test_the_clock_fires_it_without_redis(settings: Any) -> None:
    settings.CLOCK_DRAINS_AFTER = 0.0
    schedule(due=ago(0))
    clock = Clock()
    clock._deaf_since = -10.0
    clock._ring = lambda stage: None  # type: ignore[method-assign]  # nobody can hear it
    clock.tick()
    assert Event.objects.get().type == "tick"


def test_what_is_disabled_does_not_fire_and_starts_anew() -> None:
    made = schedule(due=ago(30))
    kinds["Schedule"].disable(made)
    assert scheduling.fire_due() == {"schedules": 1}
    assert not Event.objects.exists()
    made.refresh_from_db()
    assert made.due_at is None
    made.enabled = True
    made.full_clean()
    assert made.due_at is not None
    assert made.due_at > timezone.now()


def test_saving_keeps_a_time_that_is_overdue_unless_the_times_changed() -> None:
    made = schedule(due=ago(30))
    overdue = made.due_at
    made.description = "other"
    made.full_clean()
    assert made.due_at == overdue
    made.cron = "0 0 1 1 *"
    made.full_clean()
    assert made.due_at == datetime(timezone.now().year + 1, 1, 1, tzinfo=UTC)


def test_it_is_applied_and_exported(tmp_path: Path) -> None:
    event_type("report.due")
    assert applied(DOCUMENT, tmp_path) == [Outcome.CREATED]
    made = Schedule.objects.get()
    assert made.due_at is not None
    assert made.due_at > timezone.now()
    assert applied(DOCUMENT, tmp_path) == [Outcome.UNCHANGED]
    assert kinds["Schedule"].text(made, in_clear) == DOCUMENT
    before = made.due_at
    assert applied(DOCUMENT.replace("0 2 * * *", "0 3 * * *"), tmp_path) == [Outcome.CHANGED]
    made.refresh_from_db()
    assert made.due_at not in (None, before)


@pytest.mark.parametrize(
    ("written", "instead", "reason"),
    [
        ("0 2 * * *", "'@daily'", 'line 3: cron: "@daily" is written `0 0 * * *` here'),
        ("Europe/Berlin", "Berlin", 'line 4: time_zone: unknown time zone "Berlin"'),
        ("report.due", "report.do", 'line 6: event.type: unknown event type "report.do", did you mean "report.due"?'),
        ("subject: nightly", "source: /shp", 'line 7: event.source: unknown source "/shp"'),
        ("subject: nightly", "sorce: /shop", 'line 7: event.sorce: unknown field "sorce", did you mean "source"?'),
        ("report: nightly", "report: 7", 'line 9: event.data.report: 7 is not of type "string" (schema report.due v1)'),
        ("  data:\n    report: nightly\n", "", 'line 5: event.data: null is not of type "object"'),
    ],
)
def test_a_mistake_is_refused_at_its_line(tmp_path: Path, written: str, instead: str, reason: str) -> None:
    event_type("report.due", {"type": "object", "properties": {"report": {"type": "string"}}})
    Source.objects.create(name="shop")
    assert written in DOCUMENT
    with pytest.raises(Rejected) as caught:
        applied(DOCUMENT.replace(written, instead), tmp_path)
    assert reason in str(caught.value).replace(f"{tmp_path}/schedules.yaml:", "line ")


def test_an_address_below_a_source_may_be_its_source() -> None:
    Source.objects.create(name="shop")
    assert schedule(source="/shop/eu").source == "/shop/eu"
    with pytest.raises(ValidationError, match='unknown source "/shopping", did you mean "/shop"'):
        schedule(source="/shopping", name="other")


@pytest.fixture
def editor(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_the_admin_shows_the_next_five_times_and_fires_by_hand(editor: Client) -> None:
    made = schedule("30 2 * * *", time_zone="Europe/Berlin")
    page = editor.get(reverse("admin:events_schedule_change", args=[made.pk])).content.decode()
    times = made.times.upcoming(timezone.now(), 5)
    for each in times:
        assert f"{each.astimezone(made.times.zone):%a %Y-%m-%d %H:%M %Z}" in page
    url = reverse("admin:events_schedule_fire", args=[made.pk])
    editor.get(url)
    assert not Event.objects.exists(), "a link alone makes no event"
    for _ in range(2):
        editor.post(url, {"_form_submitted": "on"})
    assert Event.objects.count() == 2
    made.refresh_from_db()
    assert made.due_at == times[0]
    EventType.objects.update(retired=True)
    time.sleep(FRESH)
    told = editor.post(url, {"_form_submitted": "on"}, follow=True).content.decode()
    assert re.search(r"No event was made: type: the event type .{1,6}tick.{1,6} is retired", told)
    assert Event.objects.count() == 2


def test_the_admins_form_explains_and_plans(editor: Client) -> None:
    event_type("order.paid", ORDER)
    given = {"name": "daily", "enabled": "on", "cron": "61 * * * *", "time_zone": "Berlin", "type": "order.paid"}
    given |= {"source": "/carillon", "data": '{"order_id": 1, "amount": 2}'}
    url = reverse("admin:events_schedule_add")
    page = editor.post(url, given).content.decode()
    assert "&quot;61&quot; is no minute: write 0 to 59" in page
    assert "unknown time zone &quot;Berlin&quot;" in page
    assert "order_id: 1 is not of type &quot;string&quot;" in page
    right = {**given, "cron": "0 9 * * MON-FRI", "time_zone": "Europe/Berlin", "data": '{"order_id": "1", "amount": 2}'}
    assert editor.post(url, right).status_code == 302
    made = Schedule.objects.get()
    assert made.due_at is not None
    before = made.due_at
    page_url = reverse("admin:events_schedule_change", args=[made.pk])
    assert editor.post(page_url, {**right, "cron": "0 10 * * MON-FRI"}).status_code == 302
    made.refresh_from_db()
    assert made.due_at - before in (timedelta(hours=1), timedelta(hours=1) - timedelta(days=1))
    assert editor.post(page_url, {**right, "enabled": ""}).status_code == 302
    made.refresh_from_db()
    assert made.due_at is None
