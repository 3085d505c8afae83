"""The admin of runs: what is cancelled and retried, and the page that asks first."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.workflows.runs import drain, start, state, workflow
from workflows.models import Record, Run

pytestmark = pytest.mark.django_db(transaction=True)

SLEEP = "  - {id: sleep, action: delay, with: {for: 1h}}\n"
FAIL = "  - {id: refuse, action: fail, with: {message: no}}\n"
CHILD = "  - {id: go, action: workflow.run, with: {workflow: child}}\n"
LIST = "admin:workflows_run_changelist"


def page(act: str, run: Run) -> str:
    return reverse(f"admin:workflows_run_{act}", args=[run.pk])


def select(act: str, *runs: Run, confirmed: bool = False) -> dict[str, Any]:
    more = {"confirmed": "yes"} if confirmed else {}
    return {"action": f"{act}_selected", "_selected_action": [str(run.pk) for run in runs], **more}


def test_the_chosen_runs_are_counted_before_they_are_cancelled(admin_client: Client) -> None:
    workflow(SLEEP, "child")
    (parent,) = start(workflow(CHILD, "parent"), {})
    (failed,) = start(workflow(FAIL, "failing"), {})
    drain()
    asked = admin_client.post(reverse(LIST), select("cancel", parent, failed)).content.decode()
    assert "Cancel: 1 run, and 1 that it started" in asked
    assert "1 of the chosen will be left alone: at their end already" in asked
    assert state(parent) == "waiting"

    answer = admin_client.post(reverse(LIST), select("cancel", parent, failed, confirmed=True), follow=True)
    assert "1 cancelled. 1 left alone: at their end already." in answer.content.decode()
    assert {run.workflow.name: run.state for run in Run.objects.all()} == {
        "parent": "cancelled",
        "child": "cancelled",
        "failing": "failed",
    }
    assert Run.objects.get(pk=parent.pk).error == "cancelled by admin"
    assert Run.objects.get(parent=parent.pk).error == "the run that started it was cancelled: cancelled by admin"
    assert [(entry.object_id, entry.change_message) for entry in LogEntry.objects.all()] == [
        (str(parent.pk), "Cancelled.")
    ]
    nothing = admin_client.post(reverse(LIST), select("cancel", failed)).content.decode()
    assert "There is nothing to do" in nothing


def test_a_run_is_cancelled_on_its_page_only_by_post(admin_client: Client) -> None:
    (run,) = start(workflow(SLEEP), {})
    drain()
    shown = admin_client.get(page("change", run)).content.decode()
    assert page("cancel", run) in shown
    assert page("retry", run) not in shown
    assert "Cancel: 1 run" in admin_client.get(page("cancel", run)).content.decode()
    assert state(run) == "waiting"
    answer = admin_client.post(page("cancel", run), {"confirmed": "yes"})
    assert answer.headers["Location"] == page("change", run)
    assert state(run) == "cancelled"
    assert Run.objects.filter(finished_at__lte=timezone.now()).exists()  # not when it would have gone on


def test_failed_runs_are_retried_with_their_own_or_the_newest_version(admin_client: Client) -> None:
    runs = start(workflow(FAIL), {}, {}, {})
    drain()
    workflow(SLEEP)
    answer = admin_client.post(reverse(LIST), select("retry", runs[0], confirmed=True), follow=True)
    assert "1 retried." in answer.content.decode()
    drain()
    assert Run.objects.get(pk=runs[0].pk).round == 1
    assert page("retry_newest", runs[0]) in admin_client.get(page("change", runs[0])).content.decode()
    answer = admin_client.post(reverse(LIST), select("retry_newest", *runs, confirmed=True), follow=True)
    assert "3 retried with the newest version." in answer.content.decode()
    drain()
    assert set(Run.objects.values_list("state", "version__number")) == {("waiting", 2)}


def test_the_page_of_a_run_shows_items_waits_children_and_the_queue(admin_client: Client) -> None:
    workflow(SLEEP, "child")
    (run,) = start(
        workflow("  - {id: go, for_each: [a, b], action: workflow.run, with: {workflow: child}}\n", "parent"), {}
    )
    first, second = start(workflow(SLEEP, "single", "concurrency: {key: k}"), {}, {})
    drain()
    shown = admin_client.get(page("change", run)).content.decode()
    assert "waits, without an end" in shown
    assert "[0]" in shown
    assert "[1]" in shown
    assert "waits until" in shown  # in a child
    for child in Run.objects.filter(parent=run.pk):
        assert page("change", child) in shown
        assert "step go of another run" in admin_client.get(page("change", child)).content.decode()
    shown = admin_client.get(page("change", second)).content.decode()
    assert "queued" in shown
    assert "It waits for its turn" in shown
    assert "single:k" in admin_client.get(page("change", first)).content.decode()
    assert "queued" in admin_client.get(reverse(LIST)).content.decode()


def test_whoever_may_only_look_can_do_nothing(client: Client) -> None:
    (run,) = start(workflow(SLEEP), {})
    drain()
    viewer = User.objects.create_user("looks", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(viewer)
    assert page("cancel", run) not in client.get(page("change", run)).content.decode()
    for act in ("cancel", "retry", "retry_newest"):
        assert client.post(page(act, run), {"confirmed": "yes"}).status_code == 403
        client.post(reverse(LIST), select(act, run, confirmed=True))
    assert state(run) == "waiting"


def test_records_are_found_by_collection_and_key(admin_client: Client) -> None:
    for collection, key in (("orders", "A-1"), ("orders", "A-12"), ("seen", "A-1"), ("seen", "orders")):
        Record.objects.create(collection=collection, key=key, value={})
    address = reverse("admin:workflows_record_changelist")
    for text, found in (
        ("", "orders/A-1 orders/A-12 seen/A-1 seen/orders"),
        ("A-1", "orders/A-1 seen/A-1"),
        ("orders", "orders/A-1 orders/A-12"),
        ("key:orders", "seen/orders"),
        ("collection:orders key:A-1*", "orders/A-1 orders/A-12"),
        ('"A-1*"', ""),
        ("nobody", ""),
    ):
        rows = admin_client.get(address, {"q": text}).context["cl"].result_list
        assert [str(row) for row in rows] == found.split(), text
    told = admin_client.get(address, {"q": "colour:red"})
    assert "There is no field colour to search by" in told.content.decode()
