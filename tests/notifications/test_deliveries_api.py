"""The API of deliveries over real HTTP: find them, and have one, or all that failed in a channel, sent again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from notifications import recovery
from notifications.models import Attempt, Channel, Delivery, DeliveryState, Outcome, Recovery, Template
from notifications.recovery import drain
from project.scopes import Scope
from tests.notifications.conftest import MakeChannel, MakeSender
from tests.notifications.test_delivery import settled, tell
from tests.notifications.test_recovery import failed
from tests.sinks import HttpSink
from tests.workflows.runs import drain as run_all
from tests.workflows.runs import start, workflow
from tests.workflows.test_runs_api import Operator, refused
from workflows.models import Run

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def operator(live_server: LiveServer) -> Operator:
    return Operator(live_server.url, Scope.EVENTS_READ, Scope.RUNS_WRITE)


def found(operator: Operator, **parameters: Any) -> list[str]:
    answer = operator.get("deliveries", **parameters)
    assert answer.status_code == 200, answer.text
    return [row["uid"] for row in answer.json()["results"]]


def uids(*rows: Delivery) -> list[str]:
    return [str(row.uid) for row in rows]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_list_is_newest_first_and_filtered(operator: Operator, webhook: MakeChannel) -> None:
    for name in ("first", "second"):
        webhook(name)
    (broken,) = failed("first", 1)
    (waiting,) = tell("channel:second")
    (stopped,) = tell("channel:second")
    Delivery.objects.filter(pk=stopped.pk).update(state=DeliveryState.CANCELLED, due_at=None)
    Delivery.objects.filter(pk=waiting.pk).update(to="ada@example.com")
    assert found(operator) == uids(stopped, waiting, broken)
    assert found(operator, channel="first") == found(operator, state="failed") == uids(broken)
    assert found(operator, state="pending") == found(operator, to="ada@example.com") == uids(waiting)
    assert found(operator, state="cancelled", channel="second") == uids(stopped)
    assert found(operator, to="ada") == found(operator, event=uuid4()) == []
    before = (timezone.now() - HOUR).isoformat()
    assert found(operator, since=before) == uids(stopped, waiting, broken)
    assert found(operator, until=before) == []
    page = operator.get("deliveries", limit=2).json()
    assert [row["uid"] for row in page["results"]] == uids(stopped, waiting)
    rest = operator.session.get(page["next"], timeout=30).json()["results"]
    assert [(row["uid"], row["channel"], row["state"], row["reason"], row["tries"]) for row in rest] == [
        (str(broken.uid), "first", "failed", "no", 8)
    ]
    assert "message" not in rest[0]


@pytest.mark.parametrize(
    "parameters",
    [
        {"state": "done"},
        {"channel": "nobody"},
        {"event": "x"},
        {"since": "now"},
        {"until": ""},
        {"to": "a\0"},
        {"limit": "0"},
        {"cursor": "x"},
        {"origin": "x"},
    ],
)
def test_a_parameter_that_means_nothing_is_refused(operator: Operator, parameters: dict[str, str]) -> None:
    refused(operator.get("deliveries", **parameters), 400, *parameters)


def test_those_of_an_event_are_found_and_of_the_runs_that_its_runs_started(
    operator: Operator, webhook: MakeChannel
) -> None:
    webhook("ops")
    Template.objects.create(name="t", text="hello")
    step = "  - {id: tell, action: notify, with: {to: ['channel:ops'], template: t}}\n"
    workflow(step, "child")
    parent = workflow(f"{step}  - {{id: more, action: workflow.run, with: {{workflow: child}}}}\n", "parent")
    runs = start(parent, {}), start(parent, {})
    run_all()
    event, other = uuid4(), uuid4()
    for origin, (run,) in zip((event, other), runs, strict=True):
        Run.objects.filter(pk=run.pk).update(origin=origin)
    of_event, of_other = found(operator, event=event), found(operator, event=other)
    assert (len(of_event), len(of_other)) == (2, 2)
    assert not set(of_event) & set(of_other)
    assert found(operator, event=event, state="failed") == []


def test_one_is_told_with_its_message_and_its_attempts(operator: Operator, webhook: MakeChannel) -> None:
    webhook("ops")
    (row,) = failed("ops", 1)
    Attempt.objects.create(
        delivery=row, number=1, at=timezone.now(), outcome=Outcome.FAILED, status=400, response="no", ms=3
    )
    told = operator.get(f"deliveries/{row.uid}").json()
    assert (told["uid"], told["channel"], told["kind"], told["state"]) == (str(row.uid), "ops", "webhook", "failed")
    assert told["message"]["data"] == {"n": 0}
    assert [(it["number"], it["outcome"], it["status"], it["response"]) for it in told["attempts"]] == [
        (1, "failed", 400, "no")
    ]
    assert told["finished_at"].endswith("Z")
    assert refused(operator.get(f"deliveries/{uuid4()}"), 404).startswith("There is no delivery ")


def test_an_index_leads_to_what_is_rare(operator: Operator, webhook: MakeChannel) -> None:
    webhook("ops")
    tell("channel:ops", times=2_000)
    Delivery.objects.update(state=DeliveryState.DELIVERED, due_at=None, to="somebody@example.com")
    (row,) = tell("channel:ops")
    Delivery.objects.filter(pk=row.pk).update(to="ada@example.com", state=DeliveryState.SKIPPED, due_at=None)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_delivery")
    newest = Delivery.objects.order_by("-uid")
    assert "delivery_by_address" in newest.filter(to="ada@example.com")[:51].explain()
    assert "delivery_not_sent" in newest.filter(state="skipped")[:51].explain()
    assert found(operator, to="ada@example.com") == found(operator, state="skipped") == uids(row)


# --- sending again ----------------------------------------------------------------------------------------------------


def test_a_failed_one_is_sent_again(
    operator: Operator, webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    webhook("ops")
    (row,) = failed("ops", 1)
    answer = operator.post(f"deliveries/{row.uid}/retry")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    start_sender().drain()
    settled([row])
    assert [request.headers["webhook-id"] for request in http_sink.to("/ops")] == [str(row.uid)]
    told = refused(operator.post(f"deliveries/{row.uid}/retry"), 409)
    assert told == "The delivery is delivered; only one that failed, was cancelled or waits can be sent again."


def test_one_under_way_and_one_that_is_not_there_are_refused(operator: Operator, webhook: MakeChannel) -> None:
    webhook("ops")
    (row,) = tell("channel:ops")
    Delivery.objects.filter(pk=row.pk).update(leased=True, due_at=timezone.now() + HOUR)
    assert refused(operator.post(f"deliveries/{row.uid}/retry"), 409).startswith("An attempt is under way")
    refused(operator.post(f"deliveries/{uuid4()}/retry"), 404)


def test_what_failed_in_a_channel_since_a_time_is_recovered_in_the_background(
    operator: Operator,
    webhook: MakeChannel,
    http_sink: HttpSink,
    start_sender: MakeSender,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "BATCH", 2)
    webhook("ops")
    wanted, older = failed("ops", 3), failed("ops", 1, ago=2 * HOUR)
    wish = {"channel": "ops", "since": (timezone.now() - HOUR).isoformat()}
    counted = operator.post("deliveries/recover", {**wish, "dry_run": True})
    assert (counted.status_code, counted.json()["found"], counted.json()["more"]) == (200, 3, False)
    assert not Recovery.objects.exists()
    answer = operator.post("deliveries/recover", wish)
    begun = answer.json()
    assert (answer.status_code, begun["found"], begun["sent"], begun["finished_at"]) == (202, 3, 0, None)
    assert begun["started_by"] == "the API (/ops)"
    drain()
    assert operator.get(f"deliveries/recoveries/{begun['id']}").json() == {**begun, "sent": 2}
    drain()
    start_sender().drain()
    settled(wanted)
    done = operator.get(f"deliveries/recoveries/{begun['id']}").json()
    assert (done["sent"], done["finished_at"] is not None) == (3, True)
    assert {UUID(request.headers["webhook-id"]) for request in http_sink.to("/ops")} == {row.uid for row in wanted}
    assert Delivery.objects.get(pk=older[0].pk).state == DeliveryState.FAILED


@pytest.mark.parametrize(
    ("wish", "paths"),
    [
        ({}, ["channel", "since"]),
        ({"channel": "ops"}, ["since"]),
        ({"channel": "opps", "since": "2026-01-31T12:00:00Z"}, ["channel"]),
        ({"channel": "ops", "since": "yesterday"}, ["since"]),
        ({"channel": "ops", "since": None}, ["since"]),
        ({"channel": "ops", "since": "2026-01-31T12:00:00"}, ["since"]),
        ({"channel": "ops", "since": "2026-01-31T12:00:00Z", "until": "now"}, ["until"]),
    ],
)
def test_a_wish_that_means_nothing_is_refused(
    operator: Operator, webhook: MakeChannel, wish: dict[str, Any], paths: list[str]
) -> None:
    webhook("ops")
    refused(operator.post("deliveries/recover", wish), 422, *paths)
    assert not Recovery.objects.exists()


def test_the_unknown_channel_is_told_with_the_known_ones(operator: Operator) -> None:
    Channel.objects.create(name="ops-chat", type="slack", settings={"url": "https://example.com"})
    told = refused(
        operator.post("deliveries/recover", {"channel": "opschat", "since": "2026-01-31T12:00:00Z"}), 422, "channel"
    )
    assert told == 'unknown channel "opschat", did you mean "ops-chat"? known: ops-chat'


def test_there_is_no_recovery_of_that_number(operator: Operator) -> None:
    refused(operator.get("deliveries/recoveries/1"), 404)
    refused(operator.get(f"deliveries/recoveries/{10**30}"), 404)


def test_who_may_only_read_sends_nothing_again(live_server: LiveServer, webhook: MakeChannel) -> None:
    webhook("ops")
    (row,) = failed("ops", 1)
    reader = Operator(live_server.url, Scope.EVENTS_READ)
    assert reader.get(f"deliveries/{row.uid}").status_code == 200
    for path, body in (
        (f"deliveries/{row.uid}/retry", None),
        ("deliveries/recover", {"channel": "ops", "since": "2026-01-31T12:00:00Z", "dry_run": True}),
    ):
        assert "lacks the scope runs:write" in refused(reader.post(path, body), 403)
    assert Delivery.objects.get().state == DeliveryState.FAILED
