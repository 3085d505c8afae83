"""The admin over HTTP: every page answers, forms say what is wrong where it is, facts cannot be changed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from events.models import ApiKey, DeadLetter, Event, EventType, Schedule, Source, Subscription
from events.sources import adapters
from examples.ops.models import Incident, Order
from notifications.models import Attempt, Channel, Delivery, DeliveryState, Outcome, Recipient, Template
from project.models import AuditEntry
from project.roles import Role
from project.scopes import Scope
from project.secrets import MASK
from workflows.models import Record, Run, RunState, StepRun, StepState, Workflow
from workflows.publishing import publish

pytestmark = pytest.mark.django_db

Rows: TypeAlias = dict[type[models.Model], models.Model]
CONFIRMED = {"_form_submitted": "on"}

ORDER = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}}}
WORKFLOW = """\
name: order-paid
description: Keep the order
steps:
  - id: keep
    action: record.put
    with: {collection: orders, key: "${{ event.data.order_id }}", value: "${{ event.data }}"}
"""


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def everything() -> Rows:
    """One row of each model that the admin shows."""
    source = Source.objects.create(name="shop", secret="a-long-secret-of-the-shop")
    key, _ = ApiKey.issue(source, "tests", [Scope.EVENTS_WRITE])
    kind = EventType.objects.create(name="order.paid", example={"amount": 1})
    with transaction.atomic():  # for tests that run outside of one
        kind.add_schema(ORDER)
    version, _ = publish(WORKFLOW)
    subscription = Subscription.objects.create(
        name="paid-orders", types=["order.paid"], filter="event.data.amount > 1.0", workflow=version.workflow
    )
    channel = channel_named(name="ops-chat", type="slack", settings={"url": "https://example.com/hooks/abcd1234"})
    template = Template.objects.create(name="order-paid", subject="Paid", text="{{ event.data.order_id }}")
    ada = Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"}, topics=["on-call"])
    now = timezone.now()
    event = Event.objects.create(
        source="/shop",
        event_id="1",
        type="order.paid",
        time=now,
        data={"order_id": "A-1", "amount": 120.5},
        routed_at=now,
        verdicts=[
            {"name": "paid-orders", "verdict": "matched"},
            {"name": "big_orders", "verdict": "filtered", "reason": "event.data.amount > 1000.0 is false"},
        ],
    )
    run = Run.objects.create(
        workflow=version.workflow,
        version=version,
        origin=event.uid,
        trigger="paid-orders",
        state=RunState.FAILED,
        input={"event": event.envelope()},
        error="step tell: no channel",
        finished_at=now,
    )
    step = StepRun.objects.create(
        run=run,
        step="tell",
        position=0,
        action="notify",
        state=StepState.SUCCEEDED,
        output={"deliveries": 1},
        started_at=now,
    )
    delivery = Delivery.objects.create(
        channel=channel,
        kind="slack",
        to="#orders",
        recipient=ada,
        origin=step.uid,
        template="order-paid",
        message={"subject": "Paid <now>", "text": "A-1"},
        state=DeliveryState.FAILED,
        reason="refused",
        attempts=1,
    )
    Attempt.objects.create(
        delivery=delivery, number=1, at=now, outcome=Outcome.FAILED, status=404, response="no_such_hook", ms=12
    )
    rows: list[models.Model] = [
        source,
        key,
        kind,
        version.workflow,
        version,
        subscription,
        Schedule.objects.create(name="hourly", cron="0 * * * *", type="order.paid", due_at=now),
        channel,
        template,
        ada,
        event,
        DeadLetter.objects.create(source="shop", position="orders/1", reason="no JSON", body=b"{", size=1),
        run,
        delivery,
        Record.objects.create(collection="orders", key="A-1", value={"amount": 1}),
        Incident.objects.create(service="shop", status="failed"),
        Order.objects.create(order_id="A-1", amount=1),
        User.objects.create_user("viewer"),
        Group.objects.get_or_create(name="operators")[0],  # groups outlive a test: the roles are among them
    ]
    rows.append(AuditEntry.objects.get(content_type__model="source"))  # of the first one
    return {type(row): row for row in rows}


def person(role: Role | None) -> User:
    """Somebody who may log in to the admin, with this role."""
    user = User.objects.create_user(f"somebody-{role}", is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    return user


def channel_named(name: str, **columns: Any) -> Channel:
    return Channel.objects.create(name=name, **columns)


def page_of(row: models.Model, page: str = "change") -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk])


def list_of(model: type[models.Model], page: str = "changelist") -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}")


def errors(response: Any) -> dict[str, list[str]]:
    """What the form of the page says, field by field."""
    assert response.status_code == 200
    form = response.context["adminform"].form
    return {name: list(messages) for name, messages in form.errors.items()}


def fill(client: Client, url: str) -> dict[str, Any]:
    """What a browser sends when the form of the page is saved untouched."""
    response = client.get(url)
    form = response.context["adminform"].form
    data: dict[str, Any] = {}
    for field in form:
        value = field.value()
        if callable(value):
            value = value()
        widget = field.field.widget
        if getattr(widget, "stored", None) is not None and value == widget.stored:
            value = ""  # a password field shows nothing
        if hasattr(widget, "decompress"):
            data |= {f"{field.html_name}_{n}": part or "" for n, part in enumerate(widget.decompress(value))}
        elif value not in (None, False):
            data[field.html_name] = value
    for formset in response.context["inline_admin_formsets"]:
        management = formset.formset.management_form
        data |= {bound.html_name: bound.value() for bound in management}
    return data


def test_every_list_and_every_page_answers(admin_client: Client, everything: Rows) -> None:
    shown = {model for model in admin.site._registry if model._meta.app_label != "inbox"}
    assert shown == set(everything)
    for model, row in everything.items():
        listed = admin_client.get(list_of(model))
        assert listed.status_code == 200
        assert page_of(row).encode() in listed.content
        assert admin_client.get(page_of(row)).status_code == 200
        assert admin_client.get(page_of(row, "history")).status_code == 200
        if admin.site._registry[model].get_search_fields(listed.wsgi_request):
            for term in ("order", str(UUID(int=1)), "%", "☃"):
                assert admin_client.get(list_of(model), {"q": term}).status_code == 200


def test_every_add_page_answers(admin_client: Client, everything: Rows) -> None:
    for model in (Source, EventType, Subscription, Schedule, Workflow, Channel, Template, Recipient, User, Group):
        assert admin_client.get(list_of(model, "add")).status_code == 200


def test_empty_lists_say_what_belongs_there(admin_client: Client) -> None:
    assert b"POST /api/v1/events" in admin_client.get(list_of(Event)).content
    assert b"Nothing matches" in admin_client.get(list_of(Event), {"q": "x"}).content


def test_an_anonymous_visitor_sees_nothing(client: Client, everything: Rows) -> None:
    for row in everything.values():
        assert client.get(page_of(row)).status_code == 302


def test_facts_can_be_neither_added_nor_changed_nor_deleted(admin_client: Client, everything: Rows) -> None:
    for model in (Event, Run, Delivery, Record, ApiKey):
        row = everything[model]
        assert admin_client.get(list_of(model, "add")).status_code == 403
        assert admin_client.post(page_of(row), {"state": "cancelled"}).status_code == 403
        assert admin_client.post(page_of(row, "delete"), {"post": "yes"}).status_code == 403
        assert "delete_selected" not in admin_client.get(list_of(model)).content.decode()
        assert model._default_manager.filter(pk=row.pk).exists()


def test_a_person_without_permission_sees_no_story(client: Client, everything: Rows) -> None:
    client.force_login(User.objects.create_user("guest", is_staff=True))
    assert client.get(reverse("admin:index")).status_code == 200
    assert b"order.paid" not in client.get(reverse("admin:index")).content
    assert client.get(page_of(everything[Event])).status_code == 403


class TestTrace:
    def test_the_page_of_an_event_tells_its_whole_story(self, admin_client: Client, everything: Rows) -> None:
        told = admin_client.get(page_of(everything[Event])).content.decode()
        for word in (
            "paid-orders",
            "event.data.amount &gt; 1000.0 is false",
            "filtered",
            "#orders",
            "no_such_hook",
            "404",
        ):
            assert word in told
        assert page_of(everything[Run]) in told
        assert page_of(everything[Delivery]) in told
        assert "Paid &lt;now&gt;" in told

    def test_run_and_delivery_lead_to_each_other_and_back(self, admin_client: Client, everything: Rows) -> None:
        run, delivery = everything[Run], everything[Delivery]
        assert isinstance(delivery, Delivery)
        told = admin_client.get(page_of(run)).content.decode()
        assert page_of(everything[Event]) in told
        assert page_of(delivery) in told
        # a delivery knows only its step
        by_step = reverse("admin:workflows_run_change", args=[delivery.origin])
        assert by_step in admin_client.get(page_of(delivery)).content.decode()
        assert "order-paid" in admin_client.get(by_step).content.decode()

    def test_configuration_is_found_by_its_name(self, admin_client: Client, everything: Rows) -> None:
        url = reverse("admin:events_subscription_change", args=["paid-orders"])
        assert admin_client.get(url).context["original"] == everything[Subscription]

    def test_lists_find_facts_by_what_is_known_of_them(self, admin_client: Client, everything: Rows) -> None:
        event, run, delivery = everything[Event], everything[Run], everything[Delivery]
        assert isinstance(delivery, Delivery)
        for row, terms in (
            (event, (str(event.pk), "1", "order.")),
            (run, (str(run.pk), str(event.pk), str(delivery.origin), "order-paid", "paid-orders")),
            (delivery, (str(delivery.pk), str(delivery.origin), "#orders", "order-paid")),
        ):
            for term in terms:
                found = admin_client.get(list_of(type(row)), {"q": term}).context["cl"].result_list
                assert [it.pk for it in found] == [row.pk], term

    def test_lists_filter_by_type_source_state_and_time(self, admin_client: Client, everything: Rows) -> None:
        for given, found in (
            ({"type": "order.paid", "source": "/shop", "since": "1h", "state": "routed"}, 1),
            ({"state": "waiting"}, 0),
            ({"source": "/sho"}, 0),
            ({"type": "other"}, 0),
        ):
            assert len(admin_client.get(list_of(Event), given).context["cl"].result_list) == found


class TestChannel:
    URL = "/admin/notifications/channel/add/"
    HOOK = "https://example.com/hooks/abcd1234"

    def form(self, client: Client, kind: str, **values: Any) -> dict[str, Any]:
        return {**fill(client, f"{self.URL}?type={kind}"), "name": "ops", **values}

    def test_adding_one_asks_for_the_type_first(self, admin_client: Client) -> None:
        asked = admin_client.get(self.URL).content.decode()
        for kind in ("email", "slack", "webhook"):
            assert f"?type={kind}" in asked

    def test_its_settings_are_fields(self, admin_client: Client) -> None:
        form = admin_client.get(f"{self.URL}?type=webhook").context["adminform"].form
        assert {"settings__url", "settings__secret", "settings__headers"} <= set(form.fields)
        assert form.fields["settings__url"].required
        assert form.fields["settings__headers"].label == "More headers"

    def test_settings_round_trip_and_secrets_are_never_shown(self, admin_client: Client) -> None:
        headers = {"Authorization": "Bearer 0123456789abcdef"}
        given = self.form(
            admin_client, "webhook", settings__url=self.HOOK, settings__headers=json.dumps(headers), description="Old"
        )
        assert admin_client.post(f"{self.URL}?type=webhook", given).status_code == 302
        channel = Channel.objects.get()
        assert (channel.type, channel.settings) == ("webhook", {"url": self.HOOK, "headers": headers})
        shown = admin_client.get(page_of(channel)).content.decode()
        assert "0123456789" not in shown
        assert MASK in shown
        saved = admin_client.post(page_of(channel), {**fill(admin_client, page_of(channel)), "description": "New"})
        assert saved.status_code == 302
        channel.refresh_from_db()
        assert (channel.description, channel.settings) == ("New", {"url": self.HOOK, "headers": headers})

    def test_a_secret_is_kept_when_left_empty_and_changed_when_typed(self, admin_client: Client) -> None:
        channel = channel_named("chat", type="slack", settings={"url": self.HOOK})
        shown = admin_client.get(page_of(channel)).content.decode()
        assert self.HOOK not in shown
        admin_client.post(page_of(channel), {**fill(admin_client, page_of(channel)), "timeout": "7"})
        channel.refresh_from_db()
        assert (channel.timeout, channel.settings) == (7, {"url": self.HOOK})
        other = "https://example.com/other"
        admin_client.post(page_of(channel), {**fill(admin_client, page_of(channel)), "settings__url": other})
        channel.refresh_from_db()
        assert channel.settings == {"url": other}

    def test_what_is_wrong_stands_at_its_field(self, admin_client: Client) -> None:
        given = self.form(
            admin_client, "slack", settings__url="http://169.254.0.1/x", rate_limit="often", name="Ops Chat"
        )
        told = errors(admin_client.post(f"{self.URL}?type=slack", given))
        assert set(told) == {"settings__url", "rate_limit", "name"}
        missing = errors(admin_client.post(f"{self.URL}?type=slack", self.form(admin_client, "slack")))
        assert missing == {"settings__url": ["This field is required."]}

    def test_saving_the_form_leaves_the_lane_alone(self, admin_client: Client) -> None:
        channel = channel_named("chat", type="slack", settings={"url": self.HOOK})
        given = {**fill(admin_client, page_of(channel)), "description": "New"}
        until = timezone.now() + timedelta(hours=1)
        original = Channel.save

        def meanwhile(self: Channel, *args: Any, **kwargs: Any) -> None:
            Channel.objects.update(hold_until=until, failures=5)  # the sender, between the form's read and its write
            original(self, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Channel, "save", meanwhile)
            assert admin_client.post(page_of(channel), given).status_code == 302
        channel.refresh_from_db()
        assert (channel.description, channel.hold_until, channel.failures) == ("New", until, 5)

    def test_it_is_disabled_enabled_and_its_hold_cleared(self, admin_client: Client) -> None:
        channel = channel_named("chat", type="slack", settings={"url": self.HOOK})
        Channel.objects.update(hold_until=timezone.now() + timedelta(hours=1), hold_reason="503", failures=6)
        shown = admin_client.get(page_of(channel)).content.decode()
        assert "on hold" in shown
        assert f"{channel.pk}/enable" not in shown
        changes = {"disable": ("enabled", False), "enable": ("enabled", True), "clear_hold": ("hold_until", None)}
        for act, (column, value) in changes.items():
            url = reverse(f"admin:notifications_channel_{act}", args=[channel.pk])
            asked = admin_client.get(url)
            assert b"csrfmiddlewaretoken" in asked.content  # asking changes nothing
            assert admin_client.post(url, CONFIRMED, headers={"HX-Request": "true"}).headers["HX-Redirect"] == page_of(
                channel
            )
            channel.refresh_from_db()
            assert getattr(channel, column) == value
        assert channel.failures == 0

    def test_a_type_that_is_gone_still_shows_its_settings_masked(self, admin_client: Client) -> None:
        channel = channel_named("old", type="pigeon", settings={"loft": "a-secret-place-in-the-hills"})
        shown = admin_client.get(page_of(channel)).content.decode()
        assert "a-secret-place" not in shown
        assert "loft" in shown


def test_a_delivery_is_retried_and_cancelled(admin_client: Client, everything: Rows) -> None:
    row = everything[Delivery]
    for act, state in (("retry", DeliveryState.PENDING), ("cancel", DeliveryState.CANCELLED)):
        url = reverse(f"admin:notifications_delivery_{act}", args=[row.pk])
        assert url in admin_client.get(page_of(row)).content.decode()
        assert admin_client.get(url).status_code == 200
        answered = admin_client.post(url, CONFIRMED, headers={"HX-Request": "true"})
        assert answered.headers["HX-Redirect"] == page_of(row)
        assert Delivery.objects.get().state == state
    assert (
        reverse("admin:notifications_delivery_cancel", args=[row.pk])
        not in admin_client.get(page_of(row)).content.decode()
    )
    many = {"action": "retry_selected", "_selected_action": [str(row.pk)]}
    assert admin_client.post(list_of(Delivery), many).status_code == 302
    assert Delivery.objects.get().state == DeliveryState.PENDING


def test_a_viewer_sees_no_secret(client: Client, everything: Rows) -> None:
    client.force_login(person(Role.VIEWER))
    for model, row in everything.items():
        if model in (User, Group):
            continue
        for page in (client.get(list_of(model)), client.get(page_of(row)), client.get(page_of(row, "history"))):
            assert page.status_code == 200
            assert b'name="_save"' not in page.content
            assert b"a-long-secret" not in page.content
            assert b"hooks/abcd1234" not in page.content


class TestSource:
    def test_a_key_is_shown_once_and_works(self, admin_client: Client) -> None:
        source = Source.objects.create(name="shop")
        url = reverse("admin:events_source_issue_key", args=[source.pk])
        assert admin_client.get(url).status_code == 200
        shown = admin_client.post(url, {"name": "checkout", "scopes": ["events:write"], "days": "30"}).content.decode()
        row = ApiKey.objects.get()
        assert row.prefix in shown
        key = next(word for word in shown.replace("<", " ").replace(">", " ").split() if word.startswith(row.prefix))
        assert ApiKey.digest_of(key) == row.digest
        assert row.scopes == ["events:write"]
        assert row.expires_at is not None
        page = admin_client.get(page_of(source)).content.decode()
        assert row.prefix in page
        assert key not in page

    def test_a_key_is_revoked_once_and_for_all(self, admin_client: Client) -> None:
        row, _ = ApiKey.issue(Source.objects.create(name="shop"), "tests", [])
        url = reverse("admin:events_apikey_revoke", args=[row.pk])
        assert admin_client.get(url).status_code == 200
        row.refresh_from_db()
        assert row.revoked_at is None
        admin_client.post(url, CONFIRMED)
        row.refresh_from_db()
        assert (first := row.revoked_at) is not None
        admin_client.post(list_of(ApiKey), {"action": "revoke_selected", "_selected_action": [row.pk]})
        row.refresh_from_db()
        assert row.revoked_at == first

    def test_its_secrets_are_masked_kept_changed_and_removed(self, admin_client: Client) -> None:
        source = Source.objects.create(name="shop", adapter="github", secret="a-long-secret-of-the-shop")
        for given, kept in (
            ({"description": "New"}, ("a-long-secret-of-the-shop", "")),
            (
                {"secret": "another", "previous_secret": "a-long-secret-of-the-shop"},
                ("another", "a-long-secret-of-the-shop"),
            ),
            ({"secret": "${SHOP_SECRET}"}, ("${SHOP_SECRET}", "a-long-secret-of-the-shop")),
            ({"previous_secret-remove": "on"}, ("${SHOP_SECRET}", "")),
        ):
            page = admin_client.get(page_of(source)).content.decode()
            assert "a-long-secret" not in page
            saved = admin_client.post(page_of(source), {**fill(admin_client, page_of(source)), **given})
            assert saved.status_code == 302
            source.refresh_from_db()
            assert (source.secret, source.previous_secret) == kept
        refused = admin_client.post(page_of(source), {**fill(admin_client, page_of(source)), "secret-remove": "on"})
        assert "Settings, Webhooks of the repository" in refused.content.decode()

    def test_its_adapter_is_chosen_first_and_brings_its_types_and_its_address(self, admin_client: Client) -> None:
        add = list_of(Source, "add")
        assert all(f'href="?adapter={name}"' in admin_client.get(add).content.decode() for name in adapters.names())
        given = {**fill(admin_client, f"{add}?adapter=github"), "name": "forge", "secret": "a-long-secret"}
        assert admin_client.post(f"{add}?adapter=github", given).status_code == 302
        source = Source.objects.get()
        assert (source.adapter, source.secret, source.settings) == ("github", "a-long-secret", {})
        assert EventType.objects.get(name="github.push").schemas.count() == 1
        assert "/hooks/forge</code>" in admin_client.get(page_of(source)).content.decode()

    def test_its_settings_are_fields_that_say_what_is_wrong(self, admin_client: Client) -> None:
        add = f"{list_of(Source, 'add')}?adapter=hmac"
        given = {**fill(admin_client, add), "name": "shop", "secret": "s", "settings__header": "X-Signature"}
        wrong = {**given, "settings__type": "${{ bodi.type }}", "settings__tolerance": "soon"}
        page = admin_client.post(add, wrong).content.decode()
        assert "soon&quot; is not a duration" in page
        page = admin_client.post(add, {**wrong, "settings__tolerance": "1m"}).content.decode()
        assert "unknown variable &quot;bodi&quot;, did you mean &quot;body&quot;?" in page
        assert admin_client.post(add, {**given, "settings__type": "order.paid"}).status_code == 302
        assert Source.objects.get().settings["header"] == "X-Signature"


class TestEventType:
    def save(self, client: Client, kind: EventType, **given: Any) -> Any:
        return client.post(page_of(kind), {**fill(client, page_of(kind)), **given})

    def test_another_schema_is_a_new_version_and_the_same_is_none(self, admin_client: Client) -> None:
        given = {**fill(admin_client, list_of(EventType, "add")), "name": "order.paid", "schema": json.dumps(ORDER)}
        assert admin_client.post(list_of(EventType, "add"), given).status_code == 302
        kind = EventType.objects.get()
        assert self.save(admin_client, kind, description="New").status_code == 302
        assert [row.version for row in kind.schemas.all()] == [1]
        assert self.save(admin_client, kind, schema='{"type": "object"}').status_code == 302
        assert [row.version for row in kind.schemas.all()] == [2, 1]

    def test_json_that_does_not_parse_names_its_line(self, admin_client: Client) -> None:
        kind = EventType.objects.create(name="order.paid")
        refused = self.save(admin_client, kind, schema='{\n  "type": "object",\n  "required": [,]\n}')
        assert errors(refused)["schema"][0].startswith("Line 3, column 16: this is not JSON")
        assert b"data-problems" in refused.content
        assert b"&quot;line&quot;: 3" in refused.content

    def test_a_schema_that_is_none_is_refused(self, admin_client: Client) -> None:
        kind = EventType.objects.create(name="order.paid")
        assert "schema" in errors(self.save(admin_client, kind, schema='{"type": "objekt"}'))
        assert "schema" in errors(self.save(admin_client, kind, schema="[]"))
        assert not kind.schemas.exists()

    def test_the_example_is_held_against_the_schema_in_the_form(self, admin_client: Client) -> None:
        kind = EventType.objects.create(name="order.paid")
        kind.add_schema(ORDER)
        assert "example" in errors(self.save(admin_client, kind, example='{"amount": "much"}'))
        both = self.save(admin_client, kind, example='{"amount": "much"}', schema='{"type": "object"}')
        assert both.status_code == 302


class TestSubscription:
    def test_a_filter_that_does_not_compile_says_so_at_its_field(self, admin_client: Client) -> None:
        version, _ = publish(WORKFLOW)
        EventType.objects.create(name="order.paid")
        url = list_of(Subscription, "add")
        given = {
            "name": "paid",
            "types": "order.paid",
            "filter": "event.data.amount >",
            "workflow": version.workflow_id,
        }
        told = errors(admin_client.post(url, given))
        assert set(told) == {"filter"}
        assert told["filter"][0].startswith("line 1")
        assert set(errors(admin_client.post(url, {**given, "filter": "", "types": "order.payed"}))) == {"types"}
        assert admin_client.post(url, {**given, "filter": "event.data.amount > 1.0"}).status_code == 302
        assert Subscription.objects.get().types == ["order.paid"]


class TestWorkflow:
    def test_saving_publishes_a_version_only_when_something_changed(self, admin_client: Client) -> None:
        url = list_of(Workflow, "add")
        assert admin_client.post(url, {**fill(admin_client, url), "definition": WORKFLOW}).status_code == 302
        workflow = Workflow.objects.get()
        assert (workflow.name, workflow.description, workflow.enabled) == ("order-paid", "Keep the order", True)
        page = page_of(workflow)
        assert admin_client.post(page, fill(admin_client, page)).status_code == 302
        assert workflow.versions.count() == 1
        changed = {**fill(admin_client, page), "definition": WORKFLOW.replace("orders", "paid")}
        changed.pop("enabled")
        assert admin_client.post(page, changed).status_code == 302
        workflow.refresh_from_db()
        assert (workflow.versions.count(), workflow.enabled) == (2, False)
        assert workflow.versions.get(number=2).source == WORKFLOW.replace("orders", "paid")

    def test_every_problem_is_told_with_its_line(self, admin_client: Client) -> None:
        url = list_of(Workflow, "add")
        broken = WORKFLOW.replace("record.put", "record.putt") + "  - {id: again, action: fail, wit: {}}\n"
        response: Any = admin_client.post(url, {"definition": broken})
        told = errors(response)["definition"]
        assert told[0].startswith("line 5: steps[0].action: ")
        assert any(message.startswith("line 7: steps[1]") for message in told)
        marks = json.loads(response.context["adminform"].form["definition"].build_widget_attrs({})["data-problems"])
        assert {5, 7} <= {mark["line"] for mark in marks}
        assert not Workflow.objects.exists()

    def test_a_workflow_keeps_its_name(self, admin_client: Client) -> None:
        version, _ = publish(WORKFLOW)
        page = page_of(version.workflow)
        told = errors(
            admin_client.post(page, {**fill(admin_client, page), "definition": WORKFLOW.replace("order-paid", "other")})
        )
        assert "keeps its name" in told["definition"][0]
        again = errors(admin_client.post(list_of(Workflow, "add"), {"definition": WORKFLOW}))
        assert "edit that one" in again["definition"][0]
        assert Workflow.objects.count() == 1


def test_a_template_with_a_mistake_says_so_at_its_field(admin_client: Client) -> None:
    given = {"name": "paid", "subject": "{{ event.", "text": "fine", "html": "", "languages": "{}"}
    assert set(errors(admin_client.post(list_of(Template, "add"), given))) == {"subject"}


def test_a_mistake_inside_json_is_marked_at_its_line(admin_client: Client) -> None:
    languages = '{\n  "de": {\n    "subject": "Bestellung",\n    "text": "{{ event."\n  }\n}'
    response: Any = admin_client.post(list_of(Template, "add"), {"name": "paid", "text": "x", "languages": languages})
    assert set(errors(response)) == {"languages"}
    marks = json.loads(response.context["adminform"].form["languages"].build_widget_attrs({})["data-problems"])
    assert [mark["line"] for mark in marks] == [4]


def test_a_recipients_empty_fields_become_empty_values(admin_client: Client) -> None:
    given = {
        **fill(admin_client, list_of(Recipient, "add")),
        "name": "ada",
        "addresses": '{"email": "ada@example.com"}',
    }
    given |= {"preferences": "", "quiet_hours": "", "topics": "on-call, second-line"}
    assert admin_client.post(list_of(Recipient, "add"), given).status_code == 302
    ada = Recipient.objects.get()
    assert (ada.preferences, ada.quiet_hours, ada.topics) == ({}, {}, ["on-call", "second-line"])


def test_what_has_happened_stands_in_the_way_of_deleting_and_is_counted_to_a_bound(
    admin_client: Client, everything: Rows
) -> None:
    run = everything[Run]
    assert isinstance(run, Run)
    Subscription.objects.all().delete()
    Run.objects.bulk_create(
        Run(workflow=run.workflow, version=run.version, trigger=f"s-{n}", input={}, origin=run.origin)
        for n in range(1200)
    )
    asked = admin_client.get(page_of(everything[Workflow], "delete"))
    assert asked.context["protected"] == ["1,000+ runs"]
    assert admin_client.get(page_of(everything[Channel], "delete")).context["protected"] == ["1 delivery"]
    assert admin_client.post(page_of(everything[Workflow], "delete"), {"post": "yes"}).status_code == 200
    assert Workflow.objects.filter(pk=everything[Workflow].pk).exists()
