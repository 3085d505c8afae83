"""The audit log: every change of the configuration is in it, no secret is, and the hot path pays nothing for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from auditlog.registry import auditlog
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection, models
from django.db.models import signals
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from events.models import ApiKey, Event, EventSchema, EventType, Schedule, Source, Subscription
from notifications.models import Attempt, Channel, Delivery, Recipient, Template
from project import audit, changes
from project.kinds import kinds
from project.models import AuditEntry, Heartbeat, LedgerPage, LedgerSum, Revision, Tally
from project.roles import Role
from project.secrets import MASK
from tests.project.test_admin import CONFIRMED, WORKFLOW, fill, list_of, page_of, person, quick_passwords  # noqa: F401
from workflows.models import Gate, Gathered, Record, Run, StepRun, Workflow, WorkflowVersion
from workflows.publishing import publish

pytestmark = pytest.mark.django_db

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def entries(row: models.Model | type[models.Model]) -> list[AuditEntry]:
    """What was kept about the row, or about rows of the model, the newest first."""
    model = row if isinstance(row, type) else type(row)
    found = AuditEntry.objects.filter(content_type__app_label=model._meta.app_label)
    found = found.filter(content_type__model=model._meta.model_name)
    return list(found if isinstance(row, type) else found.filter(object_pk=str(row.pk)))


def said(entry: AuditEntry) -> dict[str, tuple[str, str]]:
    return {it.field: (it.before, it.after) for it in changes.differences(entry)}


class TestWhatIsWatched:
    def test_every_kind_of_document_and_its_parts(self) -> None:
        watched = set(auditlog.get_models())
        assert {kind.model for _, kind in kinds.items()} <= watched
        assert {ApiKey, EventSchema, WorkflowVersion, User, Group} <= watched

    @pytest.mark.parametrize(
        "model",
        [
            *(Event, Run, StepRun, Gate, Gathered, Record, Delivery, Attempt),
            *(Tally, Heartbeat, Revision, LedgerSum, LedgerPage),
        ],
        ids=lambda model: model.__name__,
    )
    def test_no_fact_and_nothing_that_changes_by_itself(self, model: type[models.Model]) -> None:
        assert not auditlog.contains(model)
        for signal in (signals.pre_save, signals.post_save, signals.post_delete):
            assert not signal.has_listeners(model)  # so saving one asks nobody

    def test_what_the_sender_and_the_clock_write_is_no_change_of_the_configuration(self) -> None:
        channel = Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hooks/a"})
        schedule = Schedule.objects.create(name="hourly", cron="0 * * * *", type="order.paid")
        before = AuditEntry.objects.count()
        channel.failures, channel.hold_reason = 3, "503"
        channel.save(update_fields=["failures", "hold_reason"])
        schedule.error = "refused"
        schedule.save()
        assert AuditEntry.objects.count() == before


class TestByTheAdmin:
    def test_a_change_tells_who_when_where_and_field_by_field_what(self, client: Client) -> None:
        subscription = Subscription.objects.create(
            name="paid", types=["order.*"], filter="event.data.amount > 1.0", workflow=publish(WORKFLOW)[0].workflow
        )
        editor = person(Role.EDITOR)
        client.force_login(editor)
        url = page_of(subscription)
        given = {**fill(client, url), "filter": "event.data.amount > 2.0", "enabled": ""}
        assert client.post(url, given).status_code == 302
        entry, *_ = entries(subscription)
        assert (entry.actor, entry.remote_addr) == (editor, "127.0.0.1")
        assert said(entry) == {
            "filter": ("event.data.amount > 1.0", "event.data.amount > 2.0"),
            "enabled": ("yes", "no"),
        }
        for page in (url.replace("change", "history"), page_of(entry)):
            told = client.get(page).content.decode()
            assert editor.username in told
            assert "event.data.amount &gt; 2.0" in told

    def test_saving_untouched_keeps_nothing(self, admin_client: Client) -> None:
        source = Source.objects.create(name="shop", secret=SECRET)
        before = AuditEntry.objects.count()
        admin_client.post(page_of(source), fill(admin_client, page_of(source)))
        assert AuditEntry.objects.count() == before

    def test_relations_are_told_by_name(self, admin_client: Client) -> None:
        shop = Source.objects.create(name="shop")
        subscription = Subscription.objects.create(
            name="paid", types=["order.*"], workflow=publish(WORKFLOW)[0].workflow
        )
        given = {**fill(admin_client, page_of(subscription)), "sources": [shop.pk]}
        assert admin_client.post(page_of(subscription), given).status_code == 302
        assert said(entries(subscription)[0]) == {"sources": ("", "shop")}
        made = said(entries(subscription)[-1])
        assert made["workflow"] == ("", "order-paid")

    def test_a_secret_is_kept_as_changed_only(self, admin_client: Client) -> None:
        source = Source.objects.create(name="shop")
        for secret in (SECRET, SECRET[::-1]):
            given = {**fill(admin_client, page_of(source)), "secret": secret}
            assert admin_client.post(page_of(source), given).status_code == 302
        Channel.objects.create(name="hook", type="webhook", settings={"url": "https://a.example.com", "secret": SECRET})
        Channel.objects.get().delete()
        _, key = ApiKey.issue(source, "tests", [])
        User.objects.create_user("ada", password="a password of ada")
        changed, added, *_ = entries(source)
        assert said(changed) == {"secret": (MASK, MASK)}
        assert said(added) == {"secret": ("", MASK)}
        everything = repr(list(AuditEntry.objects.values()))
        ada = User.objects.get(username="ada")
        for secret in (SECRET, SECRET[::-1], "a.example.com", key, ApiKey.digest_of(key), ada.password):
            assert secret not in everything
        assert {it.field for it in changes.differences(entries(Channel)[0])} >= {"settings", "type"}
        told = admin_client.get(page_of(source, "history")).content.decode()
        assert "secrets are not kept here" in told

    def test_a_new_version_is_told_on_the_workflows_page(self, admin_client: Client) -> None:
        version, _ = publish(WORKFLOW)
        page = page_of(version.workflow)
        given = {**fill(admin_client, page), "definition": WORKFLOW.replace("orders", "paid")}
        assert admin_client.post(page, given).status_code == 302
        entry = entries(WorkflowVersion)[0]
        told = admin_client.get(page_of(version.workflow, "history")).content.decode()
        assert "order-paid v2" in told
        assert "collection: paid" in told
        (difference,) = changes.differences(entry, changes.version_before(entry))
        assert [line.strip("+- ").split(",")[0] for line in difference.lines if line[0] in "+-"] == [
            "with: {collection: orders",
            "with: {collection: paid",
        ]
        assert page_of(version.workflow.versions.get(number=2)) in admin_client.get(page_of(entry)).content.decode()

    def test_a_part_without_a_page_leads_to_the_whole(self, admin_client: Client) -> None:
        kind = EventType.objects.create(name="order.paid")
        kind.add_schema({"type": "object"})
        whole = reverse("admin:events_eventtype_change", args=["order.paid"])
        assert whole in admin_client.get(page_of(entries(EventSchema)[0])).content.decode()
        assert admin_client.get(whole).context["original"] == kind

    def test_what_is_pressed_is_a_change_too(self, admin_client: Client, admin_user: User) -> None:
        source = Source.objects.create(name="shop")
        key, _ = ApiKey.issue(source, "tests", [])
        channel = Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hooks/a"})
        admin_client.post(reverse("admin:events_apikey_revoke", args=[key.pk]), CONFIRMED)
        admin_client.post(reverse("admin:notifications_channel_disable", args=[channel.pk]), CONFIRMED)
        admin_client.post(page_of(channel, "delete"), {"post": "yes"})
        assert said(entries(key)[0])["revoked at"][0] == ""
        deleted, disabled, _ = entries(Channel)
        assert said(disabled) == {"enabled": ("yes", "no")}
        assert changes.what(deleted) == "deleted channel chat"
        assert {entry.actor for entry in (entries(key)[0], disabled, deleted)} == {admin_user}

    def test_a_new_role_is_a_change(self, admin_client: Client) -> None:
        ada = User.objects.create_user("ada", is_staff=True)
        editor = Group.objects.get(name=Role.EDITOR)
        given = {**fill(admin_client, page_of(ada)), "groups": [editor.pk]}
        given = {name: value for name, value in given.items() if value is not None}
        assert admin_client.post(page_of(ada), given).status_code == 302
        assert said(entries(ada)[0]) == {"groups": ("", "editor")}

    def test_headers_that_lie_do_no_harm(self, admin_client: Client) -> None:
        source = Source.objects.create(name="shop")
        given = {**fill(admin_client, page_of(source)), "description": "New"}
        headers = {"X-Forwarded-For": "no address", "X-Forwarded-Port": "9" * 30, "X-Correlation-Id": "x" * 999}
        assert admin_client.post(page_of(source), given, headers=headers).status_code == 302
        assert entries(source)[0].remote_addr == "127.0.0.1"


class TestByPrograms:
    def test_apply_says_that_it_was_apply(self, tmp_path: Path) -> None:
        file = tmp_path / "shop.yaml"
        file.write_text(f"kind: Source\nname: shop\nsecret: {SECRET}\n")
        call_command("apply", str(file))
        file.write_text("kind: Source\nname: shop\ndescription: The shop\n")
        call_command("apply", str(file), "--dry-run")
        call_command("apply", str(file))
        call_command("apply", str(file))
        changed, made = entries(Source)
        assert changes.who(changed).startswith("manage.py apply (")
        assert said(changed) == {"description": ("", "The shop")}
        assert said(made)["secret"] == ("", MASK)

    def test_apply_tells_of_everything_it_changes(self) -> None:
        call_command("apply", "examples")
        for model in (Source, Subscription, Workflow, WorkflowVersion, Channel, Template):
            assert len(entries(model)) >= model._default_manager.count()
        # Those of files; others come with the adapter of a source, whose entry names it.
        assert {"event type order.paid", "event schema order.paid v1"} <= {
            str(entry) for entry in (*entries(EventType), *entries(EventSchema))
        }
        assert len(entries(Recipient)) == Recipient.objects.count()
        Workflow.objects.get(name="alert")
        document = Path("examples/alertmanager.yaml").read_text()
        assert "name: alert" in document
        workflow = Workflow.objects.get(name="alert")
        workflow.enabled = False
        workflow.save()
        call_command("apply", "examples")
        assert said(entries(workflow)[0]) == {"enabled": ("no", "yes")}

    def test_a_program_that_says_nothing_is_a_program(self) -> None:
        source = Source.objects.create(name="shop")
        assert changes.who(entries(source)[0]) == "a program"
        with audit.by("the API (shop / deploy)"):
            source.description = "New"
            source.save()
        assert changes.who(entries(source)[0]) == "the API (shop / deploy)"


class TestThePage:
    @pytest.fixture(autouse=True)
    def some(self) -> None:
        Source.objects.create(name="shop")
        Template.objects.create(name="paid", text="one\ntwo")
        User.objects.create_user("ada", is_staff=True)

    def listed(self, client: Client, **given: str) -> list[str]:
        response: Any = client.get(list_of(AuditEntry), given)
        assert response.status_code == 200
        return [changes.what(entry) for entry in response.context["cl"].result_list]

    def test_filters_by_model_user_and_time(self, admin_client: Client, admin_user: User) -> None:
        source = Source.objects.get()
        kind = str(entries(source)[0].content_type_id)
        assert self.listed(admin_client, model=kind) == ["added source shop"]
        assert self.listed(admin_client, user="admin") == []
        admin_client.post(page_of(source), {**fill(admin_client, page_of(source)), "description": "x"})
        assert self.listed(admin_client, user="admin") == ["changed source shop"]
        assert len(self.listed(admin_client, since="1", q="sho")) == 2
        AuditEntry.objects.update(timestamp="2020-01-01T00:00:00Z")
        assert self.listed(admin_client, since="1") == []
        for wrong in ({"model": "x"}, {"model": "9" * 30}, {"since": "x"}, {"q": "%\0"}, {"user": "☃"}):
            assert admin_client.get(list_of(AuditEntry), wrong).status_code == 200

    def test_shows_changes_only_of_what_somebody_may_see(self, client: Client) -> None:
        client.force_login(person(Role.VIEWER))
        assert self.listed(client) == ["added template paid", "added source shop"]
        assert client.get(page_of(entries(User)[0])).status_code in (302, 403)
        assert b"ada" not in client.get(list_of(AuditEntry), {"q": "ada"}).content.partition(b"<main")[2]

    def test_can_be_changed_by_nobody(self, admin_client: Client) -> None:
        entry = AuditEntry.objects.first()
        assert entry is not None
        assert admin_client.post(page_of(entry), {"action": "2"}).status_code == 403
        assert admin_client.post(page_of(entry, "delete"), {"post": "yes"}).status_code == 403

    def test_long_texts_are_told_as_a_diff(self, admin_client: Client) -> None:
        template = Template.objects.get()
        template.text = "one\n2"
        template.save()
        (difference,) = changes.differences(entries(template)[0])
        assert [line for line in difference.lines if line[0] in "+-"] == ["-two", "+2"]
        assert b"change-before" in admin_client.get(page_of(template, "history")).content

    def test_a_field_that_is_no_more_is_told_all_the_same(self, admin_client: Client) -> None:
        entry = entries(Template)[0]
        AuditEntry.objects.filter(pk=entry.pk).update(changes={"colour": ["red", "blue"], "text": [None, None]})
        assert said(entries(Template)[0]) == {"colour": ("red", "blue")}
        assert b"colour" in admin_client.get(page_of(entry)).content


def test_a_page_that_is_only_read_costs_the_audit_log_nothing(admin_client: Client) -> None:
    source = Source.objects.create(name="shop")
    admin_client.get(page_of(source))
    with CaptureQueriesContext(
        connection,
    ) as told:
        admin_client.get(page_of(source))
    assert not [query for query in told if "auditlog" in query["sql"]]
