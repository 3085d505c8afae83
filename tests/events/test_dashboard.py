"""The overview: what is wrong comes first and says what to do; its cost does not grow with the tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from events.models import Event, Subscription
from notifications.models import Attempt, Channel, Delivery, Outcome
from project.identifiers import first_uid_at, new_uid
from project.models import Heartbeat, Minute, Tally
from project.stage import stages
from workflows.models import Run, RunState
from workflows.publishing import publish

pytestmark = pytest.mark.django_db

WORKFLOW = "name: {name}\nsteps:\n  - {{id: stop, action: fail, with: {{message: no}}}}\n"
QUEUES = ["events", "workflows", "outside", "code", "notifications"]


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def channel() -> Channel:
    return Channel.objects.create(name="ops", type="slack", settings={"url": "https://example.com/hooks/x"})


def everybody_works() -> None:
    Heartbeat.beat("clock", deaf=False)
    for name in ("worker@a", "performer@a", "sender@a", "sender@b"):
        Heartbeat.beat(name, queues=QUEUES)


def told(client: Client, **given: str) -> Any:
    """The part that keeps itself up to date, as it answers."""
    answered = client.get(reverse("overview"), given)
    assert answered.status_code == 200
    return answered


def words(client: Client, **given: str) -> str:
    return " ".join(told(client, **given).content.decode().split())


def failed_run(name: str, error: str, ago: timedelta = timedelta()) -> Run:
    version, _ = publish(WORKFLOW.format(name=name))
    return Run.objects.create(
        uid=first_uid_at(timezone.now() - ago) if ago else new_uid(),
        workflow=version.workflow,
        version=version,
        input={},
        state=RunState.FAILED,
        error=error,
        trigger=str(new_uid()),
    )


def failed_delivery(channel: Channel, reason: str, ago: timedelta = timedelta()) -> Delivery:
    return Delivery.objects.create(
        uid=first_uid_at(timezone.now() - ago) if ago else new_uid(),
        channel=channel,
        kind=channel.type,
        message={},
        state="failed",
        reason=reason,
    )


def test_the_page_and_its_part_say_the_same(admin_client: Client, channel: Channel) -> None:
    everybody_works()
    Channel.objects.update(hold_until=timezone.now() + timedelta(hours=1), hold_reason="503 again and again")
    for url in (reverse("admin:index"), reverse("overview")):
        shown = admin_client.get(url).content.decode()
        for said in ("503 again and again", "Events to route", "Slowest endpoints", "Nothing was sent."):
            assert said in shown


def test_when_nothing_is_wrong_it_says_so(admin_client: Client, channel: Channel) -> None:
    everybody_works()
    assert "All is well" in words(admin_client)
    assert told(admin_client).context["troubles"] == []


class TestTroubles:
    def test_a_clock_and_workers_that_are_silent_come_first_with_what_to_start(self, admin_client: Client) -> None:
        Heartbeat.beat("worker@a", queues=["events", "workflows"])
        shown = words(admin_client)
        assert "Something needs attention" in shown
        assert "nobody has worked on these queues for 20 s: code, notifications, outside" in shown
        assert "Start <code>manage.py clock</code>" in shown

    def test_a_broker_that_the_clock_cannot_reach(self, admin_client: Client) -> None:
        everybody_works()
        Heartbeat.beat("clock", deaf=True)
        assert "The broker cannot be reached" in words(admin_client)

    def test_rows_that_nobody_takes(self, admin_client: Client) -> None:
        everybody_works()
        late = timezone.now() - timedelta(minutes=5)
        Event.objects.create(source="/shop", event_id="1", type="note", time=late, due_at=late)
        shown = words(admin_client)
        assert "Events to route: nobody took 1 due row for more than a minute." in shown
        assert "Something needs attention" in shown

    def test_a_stage_that_is_a_little_behind_is_no_alarm(self, admin_client: Client) -> None:
        everybody_works()
        late = timezone.now() - timedelta(seconds=20)
        Event.objects.create(source="/shop", event_id="1", type="note", time=late, due_at=late)
        shown = words(admin_client)
        assert "All works; something to know" in shown
        assert "Events to route: 20 s behind." in shown

    @pytest.mark.parametrize(
        ("columns", "said", "grave"),
        [
            (
                {
                    "hold_until": timezone.now() + timedelta(hours=1),
                    "hold_reason": "503",
                    "failing_since": timezone.now(),
                },
                "is on hold until",
                True,
            ),
            ({"failing_since": timezone.now()}, "is failing", True),
            ({"enabled": False, "hold_reason": "switched off: no success since noon"}, "no success since noon", True),
            ({"enabled": False}, "is disabled", False),
            (
                {"paused_at": timezone.now(), "pause_reason": "by ada: they move house"},
                "by ada: they move house",
                False,
            ),
        ],
    )
    def test_channels_that_do_not_send(
        self, admin_client: Client, channel: Channel, columns: dict[str, Any], said: str, grave: bool
    ) -> None:
        everybody_works()
        Channel.objects.update(**columns)
        shown = words(admin_client)
        assert said in shown
        assert reverse("admin:notifications_channel_change", args=[channel.pk]) in shown
        assert told(admin_client).context["state"] == ("troubled" if grave else "noted")

    def test_what_is_grave_comes_before_what_is_only_good_to_know(self, admin_client: Client, channel: Channel) -> None:
        Channel.objects.update(enabled=False)
        assert [trouble.grave for trouble in told(admin_client).context["troubles"]] == [True, True, False]


def test_failures_of_the_last_day_are_told_by_workflow_and_channel_with_the_newest(
    admin_client: Client, channel: Channel
) -> None:
    for number in range(3):
        newest = failed_run("orders", f"no order {number}")
    failed_run("invoices", "no invoice")
    failed_run("invoices", "old", ago=timedelta(days=2))
    failed_delivery(channel, "gone", ago=timedelta(days=2))
    lost = failed_delivery(channel, "410 no such hook")
    context = told(admin_client).context
    told_of = [(run.workflow.name, str(group.count), run.error) for group, run in context["failed_runs"]]
    assert told_of == [("orders", "3", "no order 2"), ("invoices", "1", "no invoice")]
    assert [(str(group.count), row.pk) for group, row in context["failed_deliveries"]] == [("1", lost.pk)]
    shown = words(admin_client)
    assert "no order 2" in shown
    assert "410 no such hook" in shown
    filtered = f"?state=failed&amp;workflow={newest.workflow}&amp;since=24h"
    assert filtered in shown
    listed = admin_client.get(reverse("admin:workflows_run_changelist") + filtered.replace("&amp;", "&"))
    assert len(listed.context["cl"].result_list) == 3


def test_charts_show_the_last_hour_or_day(admin_client: Client) -> None:
    now = timezone.now().replace(second=0, microsecond=0)
    for ago, value in ((timedelta(minutes=5), 30), (timedelta(hours=4), 60)):
        Minute.objects.create(minute=now - ago, name="accepted", value=value)
    Minute.objects.create(minute=now - timedelta(minutes=5), name="failed runs", value=2)
    charts = {chart["id"]: chart for chart in told(admin_client).context["charts"]}
    assert set(charts) == {"chart-accepted", "chart-matched", "chart-runs", "chart-deliveries"}
    assert (charts["chart-accepted"]["total"], charts["chart-accepted"]["most"]) == (30, 30)
    assert charts["chart-runs"]["failed"] == 2
    assert max(charts["chart-accepted"]["data"]["datasets"][-1]["data"]) == 30
    day = {chart["id"]: chart for chart in told(admin_client, period="day").context["charts"]}["chart-accepted"]
    assert (day["total"], day["most"], len(day["data"]["labels"])) == (90, 4, 96)
    assert max(day["data"]["datasets"][-1]["data"]) == 4.0  # 60 in a quarter of an hour
    for nonsense in ("week", "", "\0"):
        assert told(admin_client, period=nonsense).context["period"] == "hour"


def test_processes_are_told_by_kind_with_their_machines(admin_client: Client) -> None:
    everybody_works()
    Heartbeat.beat("sender@gone", queues=QUEUES)
    Heartbeat.objects.filter(process="sender@gone").update(at=timezone.now() - timedelta(minutes=1))
    found = {each["kind"]: (each["alive"], each["machines"]) for each in told(admin_client).context["processes"]}
    assert found == {"clock": (1, ""), "worker": (1, "a"), "performer": (1, "a"), "sender": (2, "a, b")}


def test_it_costs_as_many_queries_with_much_as_with_little(
    admin_client: Client, channel: Channel, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    version, _ = publish(WORKFLOW.format(name="any"))
    Subscription.objects.create(name="any", types=["*"], workflow=version.workflow)
    Tally.objects.create(name="carillon_deliveries_total", labels={"channel": "ops", "outcome": "delivered"}, value=1)
    for number in range(12):
        failed_run(f"orders-{number}", "no")
        other = Channel.objects.create(
            name=f"c-{number}",
            type="slack",
            settings={"url": "https://example.com/hooks/x"},
            hold_until=timezone.now() + timedelta(hours=1),
        )
        row = failed_delivery(other, "no")
        Attempt.objects.create(delivery=row, number=1, at=timezone.now(), outcome=Outcome.FAILED, ms=number)
    with django_assert_max_num_queries(19 + len(stages)):
        told(admin_client)


def test_a_viewer_sees_what_their_permissions_allow(client: Client, channel: Channel) -> None:
    Channel.objects.update(hold_until=timezone.now() + timedelta(hours=1), hold_reason="503 again and again")
    failed_run("orders", "no order")
    failed_delivery(channel, "410 no such hook")
    user = User.objects.create_user("looks", is_staff=True)
    client.force_login(user)
    shown = words(client)
    for hidden in ("503 again and again", "no order", "410 no such hook", "Last events", "Getting started"):
        assert hidden not in shown
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_run", "view_channel"]))
    client.force_login(User.objects.get(pk=user.pk))
    shown = words(client)
    assert "no order" in shown
    assert "503 again and again" in shown
    assert "410 no such hook" not in shown


def test_a_stranger_is_asked_to_log_in(client: Client) -> None:
    for url in (reverse("overview"), reverse("start")):
        answered = client.get(url)
        assert answered.status_code == 302
        assert "/login/" in answered.headers["Location"]
