# ruff: noqa: F811  a fixture of another module is a parameter here
"""What each role may: every page and every action of the admin, and every address of the API, against a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest
from django.apps.registry import Apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import models, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from events.models import ApiKey, Event, Source
from notifications.models import Channel, Delivery, DeliveryState
from project import roles
from project.models import AuditEntry
from project.roles import Role
from project.scopes import Scope
from tests.project.test_admin import (  # noqa: F401  fixtures
    CONFIRMED,
    Rows,
    everything,
    list_of,
    page_of,
    person,
    quick_passwords,
)
from workflows.models import Run, Workflow
from workflows.publishing import publish
from workflows.scope import token_of

pytestmark = pytest.mark.django_db


class Who(IntEnum):
    """Each may also do what those before may."""

    ANYBODY = 0  # who may log in to the admin, without a role
    VIEWER = 1
    OPERATOR = 2
    EDITOR = 3
    SUPERUSER = 4
    NOBODY = 5


ANYBODY, VIEWER, OPERATOR, EDITOR, SUPERUSER, NOBODY = Who

# Who may see its pages, add, save and delete.
MODELS = {
    "events.event": (VIEWER, NOBODY, NOBODY, NOBODY),
    "events.eventtype": (VIEWER, EDITOR, EDITOR, EDITOR),
    "events.source": (VIEWER, EDITOR, EDITOR, EDITOR),
    "events.apikey": (VIEWER, NOBODY, NOBODY, NOBODY),
    "events.deadletter": (VIEWER, NOBODY, NOBODY, NOBODY),
    "events.subscription": (VIEWER, EDITOR, EDITOR, EDITOR),
    "events.schedule": (VIEWER, EDITOR, EDITOR, EDITOR),
    "workflows.workflow": (VIEWER, EDITOR, EDITOR, EDITOR),
    "workflows.workflowversion": (VIEWER, NOBODY, NOBODY, NOBODY),
    "workflows.run": (VIEWER, NOBODY, NOBODY, NOBODY),
    "workflows.record": (VIEWER, NOBODY, NOBODY, NOBODY),
    "notifications.channel": (VIEWER, EDITOR, EDITOR, EDITOR),
    "notifications.template": (VIEWER, EDITOR, EDITOR, EDITOR),
    "notifications.recipient": (VIEWER, EDITOR, EDITOR, EDITOR),
    "notifications.delivery": (VIEWER, NOBODY, NOBODY, NOBODY),
    "ops.incident": (VIEWER, EDITOR, EDITOR, EDITOR),
    "ops.order": (VIEWER, EDITOR, EDITOR, EDITOR),
    "project.auditentry": (VIEWER, NOBODY, NOBODY, NOBODY),
    "auth.user": (SUPERUSER, SUPERUSER, SUPERUSER, SUPERUSER),
    "auth.group": (SUPERUSER, SUPERUSER, SUPERUSER, SUPERUSER),
}
# Pages and actions of a row besides, by the names of their addresses.
ACTIONS = {
    "events_source_issue_key": EDITOR,
    "events_apikey_revoke": EDITOR,
    "events_event_replay": OPERATOR,
    "events_deadletter_try_again": OPERATOR,
    "events_deadletter_discard": OPERATOR,
    "events_eventtype_send": OPERATOR,
    "events_schedule_fire": OPERATOR,
    "workflows_workflowversion_publish_again": EDITOR,
    "workflows_run_cancel": OPERATOR,
    "workflows_run_retry": OPERATOR,
    "workflows_run_retry_newest": OPERATOR,
    "notifications_channel_health": VIEWER,
    "notifications_channel_test": OPERATOR,
    "notifications_channel_pause": OPERATOR,
    "notifications_channel_resume": OPERATOR,
    "notifications_channel_recover": OPERATOR,
    "notifications_channel_clear_hold": OPERATOR,
    "notifications_channel_disable": EDITOR,
    "notifications_channel_enable": EDITOR,
    "notifications_channel_rotate": EDITOR,
    "notifications_channel_forget_secret": EDITOR,
    "notifications_delivery_retry": OPERATOR,
    "notifications_delivery_cancel": OPERATOR,
    "auth_user_forget_second_factor": SUPERUSER,
    "auth_user_password_change": SUPERUSER,
}
# What can be done to chosen rows of a list.
LIST_ACTIONS = {
    "events.deadletter": dict.fromkeys(("try_again_selected", "discard_selected"), OPERATOR),
    "events.apikey": {"revoke_selected": EDITOR},
    "workflows.run": dict.fromkeys(("cancel_selected", "retry_selected", "retry_newest_selected"), OPERATOR),
    "notifications.channel": {"disable_selected": EDITOR, "enable_selected": EDITOR, "clear_selected": OPERATOR},
    "notifications.delivery": dict.fromkeys(("retry_selected", "cancel_selected"), OPERATOR),
}
# What pages ask for by themselves, by POST.
PARTS = {
    "admin:events_eventtype_check": VIEWER,
    "admin:events_eventtype_review": VIEWER,
    "admin:events_subscription_check": VIEWER,
    "admin:events_subscription_dry_run": VIEWER,
    "admin:notifications_template_preview": EDITOR,
    "admin:notifications_template_send_test": EDITOR,
    "admin:workflows_workflow_check": EDITOR,
    "admin:workflows_workflow_test": EDITOR,
}
# Pages of no row. What they show depends on who looks.
SITE = {
    "admin:index": ANYBODY,
    "overview": ANYBODY,
    "start": ANYBODY,
    "samples": ANYBODY,
    "admin:workflows_workflow_words": EDITOR,
    "admin:search": ANYBODY,
    "admin:password_change": ANYBODY,
    "admin:password_change_done": ANYBODY,
    "admin:jsi18n": ANYBODY,
    "two_factor": ANYBODY,
    "flower": VIEWER,
}
# Asked for a row of a model, or for none; the tests for them stand below.
OTHERS = {"login", "two_factor_verify", "logout", "autocomplete", "view_on_site", "app_list", "start_hide"}

PEOPLE = [ANYBODY, VIEWER, OPERATOR, EDITOR, SUPERUSER]


def named(patterns: list[Any], before: str = "") -> Iterator[tuple[str, str, URLPattern]]:
    """Every address that has a name: itself, the name, and what answers."""
    for pattern in patterns:
        address = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from named(pattern.url_patterns, address)
        elif pattern.name:
            yield address, pattern.name, pattern


def log_in(client: Client, who: Who) -> None:
    role = {VIEWER: Role.VIEWER, OPERATOR: Role.OPERATOR, EDITOR: Role.EDITOR}.get(who)
    user = User.objects.create_superuser("root") if who is SUPERUSER else person(role)
    client.force_login(user)


def label_of(model: type[models.Model]) -> str:
    return model._meta.label_lower


def let_in(response: Any) -> bool:
    """Whether it was answered; being sent to the login, or home because nothing is there for them to see, is none."""
    assert response.status_code in (200, 302, 403, 404), response.status_code  # 404: this row has no such thing
    sent = response.headers.get("Location", "")
    return response.status_code != 403 and "login" not in sent and sent != reverse("admin:index")


def test_the_tables_name_every_page_of_the_admin() -> None:
    of_models = {
        f"{label.replace('.', '_')}_{page}"
        for label in MODELS
        for page in ("changelist", "add", "history", "delete", "change")
    }
    known = of_models | set(ACTIONS) | {name.removeprefix("admin:") for name in (*SITE, *PARTS)} | OTHERS
    there = {name for address, name, _ in named(get_resolver().url_patterns) if address.startswith("admin/")}
    unknown = there - known
    assert not unknown, f"say in ACTIONS, PARTS or SITE who may open {', '.join(sorted(unknown))}"
    assert {label_of(model) for model in admin.site._registry} == set(MODELS)


@pytest.mark.parametrize("who", PEOPLE, ids=lambda who: who.name.lower())
def test_every_page_opens_for_whom_it_should(client: Client, everything: Rows, who: Who) -> None:
    log_in(client, who)
    wrong = []
    for model, row in everything.items():
        see, add, save, delete = MODELS[label_of(model)]
        for url, least in (
            (list_of(model), see),
            (page_of(row), see),
            (page_of(row, "history"), see),
            (list_of(model, "add"), add),
            (page_of(row, "delete"), delete),
        ):
            if let_in(client.get(url)) != (who >= least):
                wrong.append(url)
        with transaction.atomic():
            posted = client.post(page_of(row), {})
            if let_in(posted) != (who >= save):
                wrong.append(f"POST {page_of(row)}")
            if model is Source:
                ApiKey.objects.all().delete()  # with them, a source is not deleted by anybody
            deleted = client.post(page_of(row, "delete"), {"post": "yes"})
            if let_in(deleted) != (who >= delete):
                wrong.append(f"POST {page_of(row, 'delete')}")
            transaction.set_rollback(True)
    assert not wrong


@pytest.mark.parametrize("who", PEOPLE, ids=lambda who: who.name.lower())
def test_every_action_is_taken_by_whom_it_should(client: Client, everything: Rows, who: Who) -> None:
    log_in(client, who)
    Channel.objects.update(hold_reason="503", failures=3)
    rows = {row._meta.label_lower.replace(".", "_"): row for row in everything.values()}
    wrong = []
    for name, least in ACTIONS.items():
        row = next(row for label, row in rows.items() if name.startswith(f"{label}_"))
        for method in (client.get, client.post):
            with transaction.atomic():
                if let_in(method(reverse(f"admin:{name}", args=[row.pk]), CONFIRMED)) != (who >= least):
                    wrong.append(f"{method.__name__} {name}")
                transaction.set_rollback(True)
    assert not wrong


@pytest.mark.parametrize("who", PEOPLE, ids=lambda who: who.name.lower())
def test_lists_offer_what_somebody_may_do(client: Client, everything: Rows, who: Who) -> None:
    log_in(client, who)
    for model, options in admin.site._registry.items():
        see, _, _, delete = MODELS[label_of(model)]
        if who < see:
            continue
        expected = {name for name, least in LIST_ACTIONS.get(label_of(model), {}).items() if who >= least}
        offered = set(options.get_actions(client.get(list_of(model)).wsgi_request))
        assert offered == expected | ({"delete_selected"} if who >= delete else set()), label_of(model)


@pytest.mark.parametrize("who", PEOPLE, ids=lambda who: who.name.lower())
def test_pages_of_no_model_open_for_whom_they_should(client: Client, settings: Any, who: Who) -> None:
    settings.FLOWER_URL = "http://flower.example.com"
    log_in(client, who)
    for name, least in SITE.items():
        response = client.get(reverse(name))
        assert let_in(response) == (who >= least), name
    for name, least in PARTS.items():
        assert let_in(client.post(reverse(name))) == (who >= least), name
    for label in roles.OWN - {"project"}:
        there = client.get(reverse("admin:app_list", args=[label])).status_code
        assert there == (200 if who >= VIEWER else 404)
    found = client.get(
        reverse("admin:autocomplete"), {"app_label": "events", "model_name": "subscription", "field_name": "sources"}
    )
    assert (found.status_code == 200) == (who >= VIEWER)
    user = ContentType.objects.get_for_model(User)
    assert client.get(reverse("admin:view_on_site", args=[user.pk, 1])).status_code == 404


def test_the_sidebar_offers_only_what_opens(client: Client) -> None:
    log_in(client, ANYBODY)
    without = client.get(reverse("admin:index")).content.decode()
    assert reverse("admin:events_event_changelist") not in without
    assert reverse("admin:auth_user_changelist") not in without
    client.force_login(person(Role.EDITOR))
    told = client.get(reverse("admin:index")).content.decode()
    assert reverse("admin:events_event_changelist") in told
    assert reverse("admin:project_auditentry_changelist") in told
    assert reverse("admin:auth_user_changelist") not in told


def test_a_viewer_changes_nothing_by_sending_what_an_operator_sends(client: Client, everything: Rows) -> None:
    log_in(client, VIEWER)
    chosen = {"action": "retry_selected", "_selected_action": [str(everything[Delivery].pk)]}
    client.post(list_of(Delivery), chosen)
    assert Delivery.objects.get().state == DeliveryState.FAILED
    client.post(list_of(Run), {**chosen, "_selected_action": [str(everything[Run].pk)], "confirmed": "yes"})
    assert Run.objects.get().round == 0
    client.post(reverse("admin:notifications_channel_pause", args=[everything[Channel].pk]), CONFIRMED)
    assert Channel.objects.get().paused_at is None


def test_an_operator_pauses_a_channel_but_cannot_point_it_elsewhere(client: Client, everything: Rows) -> None:
    log_in(client, OPERATOR)
    channel = everything[Channel]
    told = client.get(page_of(channel)).content.decode()
    assert reverse("admin:notifications_channel_pause", args=[channel.pk]) in told
    assert reverse("admin:notifications_channel_disable", args=[channel.pk]) not in told
    assert 'name="_save"' not in told
    assert client.post(page_of(channel), {"settings__url": "https://elsewhere.example.com"}).status_code == 403
    client.post(reverse("admin:notifications_channel_pause", args=[channel.pk]), CONFIRMED)
    assert Channel.objects.get().paused_at


class TestGroups:
    def test_migrate_made_them(self) -> None:
        for role in Role:
            group = Group.objects.get(name=role)
            held = {(it.content_type.app_label, it.codename) for it in group.permissions.select_related("content_type")}
            assert held == roles.permissions_of(role)

    def test_each_may_what_those_before_it_may(self) -> None:
        viewer, operator, editor = map(roles.permissions_of, Role)
        assert viewer < operator < editor
        assert {word.partition("_")[0] for _, word in viewer} == {"view"}
        assert not [app for app, _ in editor if app in ("auth", "admin", "sessions", "otp_totp", "axes", "auditlog")]

    def test_migrate_gives_them_what_is_new_and_takes_what_is_not_theirs(self) -> None:
        viewer = Group.objects.get(name=Role.VIEWER)
        viewer.permissions.set(Permission.objects.filter(codename="add_user"))
        Group.objects.get(name=Role.EDITOR).delete()
        Permission.objects.filter(codename="operate_channel").delete()
        before = AuditEntry.objects.count()
        call_command("migrate", verbosity=0)
        self.test_migrate_made_them()
        assert AuditEntry.objects.count() == before  # nobody did that

    def test_models_of_own_apps_are_theirs_too(self) -> None:
        assert ("ops", "view_order") in roles.permissions_of(Role.VIEWER)
        assert ("ops", "change_order") in roles.permissions_of(Role.EDITOR)

    def test_nothing_is_granted_before_there_are_groups(self) -> None:
        Group.objects.all().delete()
        roles.grant(apps=Apps())
        assert not Group.objects.exists()

    def test_they_are_only_shown(self, admin_client: Client) -> None:
        role, other = Group.objects.get(name=Role.VIEWER), Group.objects.create(name="auditors")
        assert b'name="_save"' not in admin_client.get(page_of(role)).content
        assert admin_client.post(page_of(role), {"name": "viewer"}).status_code == 403
        assert admin_client.post(page_of(role, "delete"), {"post": "yes"}).status_code == 403
        chosen = {"action": "delete_selected", "_selected_action": [role.pk, other.pk], "post": "yes"}
        admin_client.post(list_of(Group), chosen)
        assert Group.objects.filter(name=Role.VIEWER).exists()
        assert admin_client.post(page_of(other), {"name": "others"}).status_code == 302

    def test_who_may_change_users_by_permission_alone_still_may_not(self, client: Client) -> None:
        user = person(None)
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
        client.force_login(user)
        assert client.get(list_of(User)).status_code == 403
        assert client.post(page_of(user), {"is_superuser": "on"}).status_code == 403


class TestLinksThatDecide:
    @pytest.fixture
    def link(self, everything: Rows) -> str:
        delivery, run = everything[Delivery], everything[Run]
        assert isinstance(delivery, Delivery)
        token = token_of(run.pk, "decide")
        link = f"http://localhost:8000/steps/{token}"
        Delivery.objects.filter(pk=delivery.pk).update(message={"subject": "Refund?", "text": f"Decide: {link}"})
        Event.objects.update(data={"link": link})
        return link

    @pytest.mark.parametrize("who", [VIEWER, OPERATOR], ids=lambda who: who.name.lower())
    def test_are_shown_to_who_may_decide(self, client: Client, everything: Rows, link: str, who: Who) -> None:
        log_in(client, who)
        for model in (Event, Delivery):
            told = client.get(page_of(everything[model])).content.decode()
            assert (link in told) == (who >= OPERATOR)
            assert f"{link.partition('~')[0]}~" in told  # what it is about may be seen

    @pytest.mark.parametrize("scopes", [[Scope.EVENTS_READ], [Scope.EVENTS_READ, Scope.RUNS_WRITE]], ids=str)
    def test_are_told_by_the_api_likewise(
        self,
        client: Client,
        everything: Rows,
        link: str,
        scopes: list[Scope],
    ) -> None:
        _, key = ApiKey.issue(Source.objects.get(), "test", [scope.value for scope in scopes])
        event = everything[Event]
        for url in (f"/api/v1/events/{event.pk}", f"/api/v1/events/{event.pk}/trace", "/api/v1/events"):
            told = client.get(url, headers={"Authorization": f"Bearer {key}"}).content.decode()
            assert (link in told) == (Scope.RUNS_WRITE in scopes)


# The scopes that correspond to the roles (docs/how-to/people-and-roles.md).
SCOPES = {
    VIEWER: {Scope.EVENTS_READ, Scope.CONFIG_READ},
    OPERATOR: {Scope.EVENTS_READ, Scope.CONFIG_READ, Scope.RUNS_WRITE},
    EDITOR: {Scope.EVENTS_READ, Scope.CONFIG_READ, Scope.RUNS_WRITE, Scope.CONFIG_WRITE},
}
SENDER = "who sends events"
API = {
    ("events", "GET"): VIEWER,
    ("events", "POST"): SENDER,
    ("event", "GET"): VIEWER,
    ("trace", "GET"): VIEWER,
    ("original", "GET"): VIEWER,
    ("replay", "POST"): OPERATOR,
    ("dry_run_subscription", "POST"): VIEWER,  # nothing is run
    ("check_expression", "POST"): VIEWER,
    ("runs", "GET"): VIEWER,
    ("run", "GET"): VIEWER,
    ("cancel_run", "POST"): OPERATOR,
    ("cancel_runs", "POST"): OPERATOR,
    ("retry_run", "POST"): OPERATOR,
    ("start_run", "POST"): OPERATOR,
    ("deliveries", "GET"): VIEWER,
    ("delivery", "GET"): VIEWER,
    ("retry_delivery", "POST"): OPERATOR,
    ("recover_deliveries", "POST"): OPERATOR,
    ("recovery", "GET"): VIEWER,
    ("records", "GET"): VIEWER,
    ("record", "GET"): VIEWER,
    ("complete_step", "POST"): ANYBODY,  # the token is the permission
}


def test_the_table_names_every_address_of_the_api() -> None:
    methods = ("get", "post", "put", "patch", "delete")
    there = {
        (name, method.upper())
        for address, name, pattern in named(get_resolver().url_patterns)
        for method in methods
        if address.startswith("api/v1/") and hasattr(pattern.callback.view_class, method)  # type: ignore[attr-defined]  # of class-based views
    }
    assert there == set(API), "say in API who may ask what is new"


def address(name: str, rows: Rows) -> str:
    event, run, delivery = rows[Event], rows[Run], rows[Delivery]
    arguments: dict[str, list[Any]] = {
        "event": [event.pk],
        "trace": [event.pk],
        "original": [event.pk],
        "replay": [event.pk],
        "dry_run_subscription": ["paid-orders"],
        "start_run": ["order-paid"],
        "records": ["orders"],
        "record": ["orders", "A-1"],
        "complete_step": [token_of(run.pk, "decide")],
        "delivery": [delivery.pk],
        "retry_delivery": [delivery.pk],
        "recovery": [1],
        "run": [run.pk],
        "cancel_run": [run.pk],
        "retry_run": [run.pk],
    }
    return reverse(name, args=arguments.get(name, []))


@pytest.mark.parametrize("who", SCOPES, ids=lambda who: who.name.lower())
def test_a_key_with_a_roles_scopes_may_what_the_role_may(client: Client, everything: Rows, who: Who) -> None:
    publish(Workflow.objects.get().versions.get().source)
    _, key = ApiKey.issue(Source.objects.get(), "test", [scope.value for scope in SCOPES[who]])
    bodies = {"cancel_runs": {"workflow": "order-paid"}, "start_run": {"input": {}}}
    for (name, method), least in API.items():
        with transaction.atomic():
            response = client.generic(
                method,
                address(name, everything),
                data=json.dumps(bodies.get(name, {})) if method == "POST" else "",
                content_type="application/json",
                headers={"Authorization": f"Bearer {key}"},
            )
            transaction.set_rollback(True)
        allowed = least != SENDER and who >= Who(least)  # type: ignore[arg-type]  # a Who, when it is no sender
        assert (response.status_code != 403) == allowed, f"{method} {name}: {response.status_code}"
        assert response.status_code < 500


def test_a_session_of_the_admin_is_none_for_the_api(client: Client, everything: Rows) -> None:
    log_in(client, SUPERUSER)
    for name, method in API:
        if name != "complete_step":
            response = client.generic(method, address(name, everything), content_type="application/json")
            assert response.status_code == 401, name
