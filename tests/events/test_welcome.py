"""Getting started: each step leads to a form that only has to be saved, and ticks itself when it is done."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from events.models import ApiKey, Event, EventType, Source, Subscription
from events.welcome import HIDDEN
from notifications.models import Channel, Delivery, Template
from project.apply import apply, read_files
from project.models import Tally
from project.stage import stages
from tests.project.test_admin import fill
from workflows.models import Workflow
from workflows.publishing import publish

pytestmark = pytest.mark.django_db

START = "/admin/start/"
PART = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def tasks(client: Client) -> dict[str, Any]:
    return {task.title: task for step in client.get(START).context["welcome"].steps for task in step.tasks}


def done(client: Client) -> list[bool]:
    return [step.done for step in client.get(START).context["welcome"].steps]


def arrived() -> None:
    Tally.objects.create(name="carillon_deliveries_total", labels={"channel": "mail", "outcome": "delivered"}, value=1)


def save(client: Client, title: str) -> None:
    """Follow the link of this task and save its form as it is; it leads back."""
    url = tasks(client)[title].url
    given = {name: value for name, value in fill(client, url).items() if not name.startswith("_")}
    saved = client.post(url, given)
    assert saved.status_code == 302, saved.context["adminform"].form.errors
    assert saved.headers["Location"] == START


def test_who_saves_every_form_as_it_is_has_everything_for_a_first_notification(admin_client: Client) -> None:
    assert done(admin_client) == [False] * 4
    assert not tasks(admin_client)["Issue its API key"].url
    assert not tasks(admin_client)["Add a workflow"].url
    save(admin_client, "Add a source")
    url = tasks(admin_client)["Issue its API key"].url
    issued = admin_client.post(url, {"name": "getting started", "scopes": ["events:write"], "days": ""})
    key = issued.context["key"]
    assert f"CARILLON_API_KEY={key}" in issued.content.decode()
    assert START in issued.content.decode()
    save(admin_client, "Add an event type")
    assert done(admin_client) == [True, False, False, False]
    save(admin_client, "Add a channel")
    save(admin_client, "Add a template")
    assert done(admin_client) == [True, True, False, False]
    save(admin_client, "Add a workflow")
    save(admin_client, "Add a subscription")
    assert done(admin_client) == [True, True, True, False]
    assert ApiKey.objects.count() == Subscription.objects.count() == 1
    assert (Source.objects.get().name, Channel.objects.get().name) == ("backups", "mail")
    assert Workflow.objects.get().name == Subscription.objects.get().name == "backup-failed"

    welcome = admin_client.get(START).context["welcome"]
    assert welcome.ready
    event = json.loads(shlex.split(welcome.event)[0])
    assert event == {"type": "backup.failed", "data": {"database": "shop", "error": "disk full"}}
    sent = admin_client.post(
        "/api/v1/events", event, content_type="application/json", headers={"Authorization": f"Bearer {key}"}
    )
    assert sent.status_code == 202
    waiting = admin_client.get(START).content.decode()
    assert "No message went out yet" in waiting
    assert reverse("admin:events_event_change", args=[Event.objects.get().pk]) in waiting
    arrived()
    assert done(admin_client) == [True] * 4
    assert "hx-trigger" not in admin_client.get(START, headers=PART).content.decode()


def test_what_is_there_under_other_names_ticks_the_steps_and_is_used(admin_client: Client) -> None:
    source = Source.objects.create(name="shop")
    ApiKey.issue(source, "till", ["events:write"])
    EventType.objects.create(name="unheard", example={"n": 1})
    EventType.objects.create(name="order.paid", example={"customer": "O'Brien"})
    Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hooks/x"})
    Template.objects.create(name="paid", text="Paid")
    assert done(admin_client) == [True, True, False, False]
    save(admin_client, "Add a workflow")
    definition = Workflow.objects.get().versions.get().source
    assert 'to: ["channel:chat"], template: paid' in definition
    save(admin_client, "Add a subscription")
    assert Subscription.objects.get().types == ["order.paid"]
    event = admin_client.get(START).context["welcome"].event
    assert json.loads(shlex.split(event)[0]) == {"type": "order.paid", "data": {"customer": "O'Brien"}}


def test_a_key_that_is_revoked_expired_or_of_a_disabled_source_is_none(admin_client: Client) -> None:
    source = Source.objects.create(name="shop")
    row, _ = ApiKey.issue(source, "till", [])
    assert tasks(admin_client)["Issue its API key"].done
    for columns in ({"revoked_at": timezone.now()}, {"expires_at": timezone.now() - timedelta(days=1)}):
        ApiKey.objects.update(**{"revoked_at": None, "expires_at": None, **columns})
        assert not tasks(admin_client)["Issue its API key"].done
    ApiKey.objects.update(revoked_at=None, expires_at=None)
    Source.objects.update(enabled=False)
    assert not tasks(admin_client)["Issue its API key"].done
    row.delete()


def test_with_the_examples_only_the_event_is_missing_and_it_leads_to_a_message(admin_client: Client) -> None:
    apply(read_files([Path("examples")]))
    _, key = ApiKey.issue(Source.objects.get(name="local"), "make run", ["events:write"])
    assert done(admin_client) == [True, True, True, False]
    event = json.loads(shlex.split(admin_client.get(START).context["welcome"].event)[0])
    sent = admin_client.post(
        "/api/v1/events", event, content_type="application/json", headers={"Authorization": f"Bearer {key}"}
    )
    assert sent.status_code == 202
    for stage in ("events.route", "workflows.advance"):
        stages[stage].drain_for(5)
    assert Delivery.objects.exists(), (
        "of whatever state: the channels of the examples want variables that tests do not set"
    )


class TestOnTheOverview:
    def shown(self, client: Client) -> bool:
        return client.get(reverse("overview")).context["welcome"] is not None

    def test_it_greets_whoever_may_do_the_steps(self, admin_client: Client, client: Client) -> None:
        assert self.shown(admin_client)
        viewer = User.objects.create_user("looks", is_staff=True)
        viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
        client.force_login(viewer)
        assert not self.shown(client)

    def test_it_disappears_when_all_is_done(self, admin_client: Client) -> None:
        version, _ = publish("name: any\nsteps:\n  - {id: stop, action: fail, with: {message: no}}\n")
        Subscription.objects.create(name="any", types=["*"], workflow=version.workflow)
        assert self.shown(admin_client)
        arrived()
        assert not self.shown(admin_client)

    def test_it_can_be_hidden_and_is_still_at_its_page(self, admin_client: Client) -> None:
        assert admin_client.get("/admin/start/hide/").status_code == 405
        hidden = admin_client.post("/admin/start/hide/")
        assert hidden.headers["Location"] == reverse("admin:index")
        assert HIDDEN in hidden.cookies
        assert not self.shown(admin_client)
        assert admin_client.get(START).status_code == 200
        assert START in admin_client.get(reverse("admin:index")).content.decode()


def test_htmx_gets_only_the_steps(admin_client: Client) -> None:
    part = admin_client.get(START, headers=PART).content.decode()
    assert "Who sends, and what" in part
    assert "<html" not in part


def test_a_form_that_was_opened_elsewhere_leads_where_it_always_did(admin_client: Client) -> None:
    url = f"{reverse('admin:events_source_add')}?adapter=api"
    saved = admin_client.post(url, {**fill(admin_client, url), "name": "shop"})
    assert saved.headers["Location"] == reverse("admin:events_source_changelist")
