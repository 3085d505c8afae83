"""What stands beside the editor of a workflow: for whom it is there, and that nothing they send breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from notifications.models import Channel, Template
from tests.workflows.runs import drain, start, workflow
from workflows.admin import with_runs
from workflows.models import Workflow, WorkflowVersion
from workflows.publishing import publish

pytestmark = pytest.mark.django_db(transaction=True)

CHECK = "admin:workflows_workflow_check"
WORDS = "admin:workflows_workflow_words"
TEST = "admin:workflows_workflow_test"
ONE = "  - {id: a, action: transform, with: {values: 1}}\n"


def address(name: str, about: Workflow | None = None) -> str:
    return reverse(name) + (f"?workflow={about.pk}" if about else "")


def page(version: WorkflowVersion, act: str = "change") -> str:
    return reverse(f"admin:workflows_workflowversion_{act}", args=[version.pk])


def person(*codenames: str) -> User:
    user = User.objects.create_user("somebody", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def test_what_is_checked_while_typing_is_what_is_refused_when_saved(admin_client: Client) -> None:
    version = workflow(ONE, "kept")
    broken = "name: kept\nsteps:\n  - {id: a, action: notfy}\n  - {id: a, action: fail}\n"
    told = admin_client.post(address(CHECK, version.workflow), {"text": broken}).json()
    saved: Any = admin_client.post(
        reverse("admin:workflows_workflow_change", args=[version.workflow_id]), {"definition": broken}
    )
    form = saved.context["adminform"].form
    assert [problem["message"] for problem in told["problems"]] == form.errors["definition"]
    assert [problem["line"] for problem in told["problems"]] == [3, 4, 4]
    assert told["graph"] is None


def test_a_workflow_keeps_its_name_and_a_new_one_takes_no_other(admin_client: Client) -> None:
    version = workflow(ONE, "kept")
    text = "description: x\nname: NAME\nsteps:\n" + ONE
    wrong = admin_client.post(address(CHECK, version.workflow), {"text": text.replace("NAME", "other")}).json()
    assert [(problem["line"], problem["message"].partition("name: ")[2]) for problem in wrong["problems"]] == [
        (2, 'this is the workflow "kept"; a workflow keeps its name')
    ]
    taken = admin_client.post(address(CHECK), {"text": text.replace("NAME", "kept")}).json()
    assert taken["problems"][0]["message"].endswith('there is a workflow "kept"; edit that one')
    right = admin_client.post(address(CHECK), {"text": text.replace("NAME", "other")}).json()
    assert right["problems"] == []
    assert right["graph"].strip().startswith("<svg")


def test_the_vocabulary_is_sent_again_only_when_it_changed(admin_client: Client) -> None:
    first = admin_client.get(address(WORDS))
    assert "notify" in first.json()["actions"]
    tag = {"If-None-Match": first["ETag"]}
    assert admin_client.get(address(WORDS), headers=tag).status_code == 304
    Template.objects.create(name="paid", text="x")
    assert admin_client.get(address(WORDS), headers=tag).json()["names"]["templates"] == {"paid": {"about": ""}}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"definition": "\0", "document": "\0", "outcomes": "\0"},
        {"definition": "name: w\nsteps:\n" + ONE, "document": "[" * 100_000},
        {"definition": "name: w\nsteps:\n" + ONE, "document": '{"a": "\\ud800"}'},
        {"definition": "name: w\nsteps:\n" + ONE, "document": '{"a": NaN}'},
        {"definition": "name: w\nsteps:\n" + ONE, "document": "[1]", "outcomes": "[1]"},
        {"definition": "name: w\nsteps:\n" + ONE, "document": '{"a": 1' + "0" * 5000 + "}"},
        {"definition": "name: w\nsteps:\n" + ONE, "document": "{}", "outcomes": '{"a": 1}'},
        {"definition": "name: w\nsteps:\n" + ONE, "document": "{}", "outcomes": '{"a": {"output": "\\u0000"}}'},
        {"definition": "a: &a [*a]", "document": "{}"},
        {"definition": "{" * 10_000, "document": "{}"},
        {"definition": "name: w\nsteps:\n" + ONE, "document": json.dumps({"a": "x" * 300_000}), "sample": "nothing"},
    ],
)
def test_nothing_that_is_sent_breaks_it(admin_client: Client, given: dict[str, str]) -> None:
    assert admin_client.post(address(TEST), given).status_code == 200
    assert admin_client.post(address(CHECK), {"text": given.get("definition", "")}).status_code == 200
    assert admin_client.get(reverse("samples"), {"key": given.get("document", "")[:1000]}).status_code == 200


def test_only_who_may_edit_a_workflow_gets_what_stands_beside_its_editor(client: Client) -> None:
    version = workflow(ONE, "kept")
    client.force_login(person("view_workflow", "view_workflowversion", "add_workflow"))
    shown = client.get(reverse("admin:workflows_workflow_change", args=[version.workflow_id])).content.decode()
    assert 'id="test-run"' not in shown
    assert "data-check" not in shown
    for name in (CHECK, TEST):
        assert client.post(address(name, version.workflow), {}).status_code == 403
        assert client.post(address(name), {}).status_code == 200
    assert client.get(address(WORDS, version.workflow)).status_code == 403
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get(address(WORDS)).status_code == 403
    client.logout()
    assert client.post(address(CHECK, version.workflow), {}).status_code == 302


def test_only_a_post_with_its_token_is_answered(admin_user: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(address(CHECK), {"text": ""}).status_code == 403
    assert strict.post(address(TEST), {}).status_code == 403


def test_each_version_tells_how_many_of_its_runs_are_under_way(admin_client: Client) -> None:
    sleep = "  - {id: sleep, action: delay, with: {for: 1h}}\n"
    first = workflow(sleep, "w")
    start(first, {}, {}, {})
    second = workflow(ONE + sleep, "w")
    start(second, {})
    start(workflow(ONE, "w"), {})
    drain()
    shown = {
        version.number: version.going  # type: ignore[attr-defined]
        for version in with_runs(WorkflowVersion.objects.all())
    }
    assert shown == {1: 3, 2: 1, 3: 0}
    assert "<dd>3</dd>" in admin_client.get(page(first)).content.decode()
    assert admin_client.get(reverse("admin:workflows_workflowversion_changelist")).status_code == 200


def test_publishing_a_version_again_asks_first_and_is_logged(admin_client: Client) -> None:
    first = workflow(ONE, "w")
    second = workflow(ONE.replace("1}", "2}"), "w")
    assert page(second, "publish_again") not in admin_client.get(page(second)).content.decode()
    assert page(first, "publish_again") in admin_client.get(page(first)).content.decode()
    assert b"Publish this version again?" in admin_client.get(page(first, "publish_again")).content
    assert WorkflowVersion.objects.count() == 2
    admin_client.post(page(first, "publish_again"), {"_form_submitted": "on"})
    third = WorkflowVersion.objects.get(number=3)
    assert (third.source, third.definition) == (first.source, first.definition)
    assert LogEntry.objects.get().change_message == "Published version 1 again, as 3."


def test_a_version_that_means_nothing_any_more_is_not_published_again(admin_client: Client) -> None:
    Channel.objects.create(name="mail", type="email", default=True)
    template = Template.objects.create(name="paid", text="x")
    first, _ = publish("name: w\nsteps:\n  - {id: a, action: notify, with: {to: [ada@example.com], template: paid}}\n")
    workflow(ONE, "w")
    template.delete()
    answer = admin_client.post(page(first, "publish_again"), {"_form_submitted": "on"}, follow=True)
    assert "It can no longer be published: line 3" in answer.content.decode()
    assert WorkflowVersion.objects.count() == 2


def test_whoever_may_only_look_compares_and_publishes_nothing(client: Client) -> None:
    first = workflow(ONE, "w")
    workflow(ONE.replace("1}", "2}"), "w")
    client.force_login(person("view_workflow", "view_workflowversion"))
    shown = client.get(page(first), {"with": "2"}).content.decode()
    assert "From version 1 to version 2" in shown
    assert page(first, "publish_again") not in shown
    assert client.post(page(first, "publish_again"), {"_form_submitted": "on"}).status_code == 403
    assert WorkflowVersion.objects.count() == 2


@pytest.mark.parametrize("key", ["0", "none", "9" * 30, "1%00"])
def test_a_workflow_that_is_not_there_is_not_found(admin_client: Client, key: str) -> None:
    assert admin_client.post(f"{reverse(CHECK)}?workflow={key}", {}).status_code == 404


@pytest.mark.parametrize("chosen", ["", "1", "2", "3", "x", "-1", "9" * 100, "%00"])
def test_a_version_is_compared_with_any_other(admin_client: Client, chosen: str) -> None:
    only = workflow(ONE, "alone")
    assert "There is no other version to compare it with." in admin_client.get(page(only)).content.decode()
    workflow(ONE, "w")
    second = workflow(ONE.replace("1}", "2}"), "w")
    shown = admin_client.get(f"{page(second)}?with={chosen}").content.decode()
    assert "From version 1 to version 2" in shown
