"""An event type's page tells who listens, what another schema breaks, and sends a test event as a source would."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from events.models import Event, EventType, Source, Subscription
from tests.events.conftest import ORDER, event_type
from workflows.publishing import publish

pytestmark = pytest.mark.django_db

CHECK = reverse("admin:events_eventtype_check")
REVIEW = reverse("admin:events_eventtype_review")


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def kind() -> EventType:
    """order.paid: a subscription reads its amount, and five orders were paid."""
    made = event_type("order.paid", ORDER)
    version, _ = publish("name: keep\nsteps: [{id: no, action: transform, with: {values: {}}}]")
    Subscription.objects.create(
        name="large", types=["order.*"], filter="event.data.amount > 100.0", workflow=version.workflow
    )
    now = timezone.now()
    for number in range(5):
        data = {"order_id": f"A-{number}", "amount": number}
        Event.objects.create(source="/shop", event_id=str(number), type="order.paid", time=now, data=data)
    return made


def words(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def page(kind: EventType, name: str = "change") -> str:
    return reverse(f"admin:events_eventtype_{name}", args=[kind.pk])


def form(kind: EventType, schema: Any, **values: Any) -> dict[str, Any]:
    """What the browser sends of the page's form."""
    written = schema if isinstance(schema, str) else json.dumps(schema)
    formset = {f"schemas-{name}_FORMS": "0" for name in ("TOTAL", "INITIAL", "MIN_NUM", "MAX_NUM")}
    return {"name": kind.name, "schema": written, "type": kind.pk, **formset, **values}


NO_AMOUNT = {"type": "object", "required": ["customer"], "properties": {"order_id": {"type": "string"}}}


class TestListeners:
    def test_the_page_says_who_listens(self, admin_client: Client, kind: EventType) -> None:
        told = words(admin_client.get(page(kind)))
        assert "large by order.* event.data.amount &gt; 100.0 starts keep" in told
        assert "Who makes its events" not in told

    def test_it_says_that_nobody_does_and_offers_a_subscription(self, admin_client: Client) -> None:
        told = admin_client.get(page(EventType.objects.create(name="note"))).content.decode()
        assert "Nobody: its events are stored, and nothing else happens." in told
        assert f"{reverse('admin:events_subscription_add')}?types=note" in told
        offered: Any = admin_client.get(f"{reverse('admin:events_subscription_add')}?types=note")
        assert offered.context["adminform"].form["types"].value() == "note"


class TestSchema:
    def save(self, client: Client, kind: EventType, schema: Any, **values: Any) -> Any:
        return client.post(page(kind), form(kind, schema, **values))

    def test_what_would_break_is_listed_before_it_is_saved(self, admin_client: Client, kind: EventType) -> None:
        asked = self.save(admin_client, kind, NO_AMOUNT)
        told = words(asked)
        assert "1 place reads a field that it takes away or changes:" in told
        assert "event.data.amount is no longer declared subscription large , filter" in told
        assert "5 of the 5 events of the last 7 days would be refused" in told
        assert "&quot;customer&quot; is a required property" in told
        assert kind.schemas.count() == 1
        mark = asked.context["adminform"].form.asks
        other = self.save(admin_client, kind, {**NO_AMOUNT, "title": "Other"}, confirmed=mark)
        assert other.status_code == 200  # it was ticked for another schema
        assert self.save(admin_client, kind, NO_AMOUNT, confirmed=mark).status_code == 302
        assert [row.schema for row in kind.schemas.all()] == [NO_AMOUNT, ORDER]

    def test_what_breaks_nothing_is_saved_at_once(self, admin_client: Client, kind: EventType) -> None:
        assert self.save(admin_client, kind, {**ORDER, "title": "An order"}).status_code == 302
        assert self.save(admin_client, kind, {**ORDER, "title": "An order"}, description="New").status_code == 302
        assert kind.schemas.count() == 2

    def test_a_type_that_is_renamed_is_held_against_its_events(self, admin_client: Client, kind: EventType) -> None:
        assert self.save(admin_client, kind, NO_AMOUNT, name="order.settled").status_code == 200

    def test_the_panel_lists_what_breaks_while_somebody_types(self, admin_client: Client, kind: EventType) -> None:
        for schema, said in (
            (ORDER, "The schema in the form is the latest version."),
            ({**ORDER, "title": "An order"}, "Every field that filters, workflows and templates read stays"),
            (NO_AMOUNT, "event.data.amount is no longer declared"),
            ('{"type": ', "Line 1, column 10: this is not JSON"),
            ({"type": "objekt"}, "is not valid"),
            ("[" * 100_000, "This is nested too deep"),
        ):
            assert said in words(admin_client.post(CHECK, form(kind, schema)))

    def test_a_review_goes_through_stored_events_step_by_step(
        self, admin_client: Client, kind: EventType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        schema = {**ORDER, "properties": {"amount": {"minimum": 2}}}
        Event.objects.create(source="/a", event_id="p", type="order.paid", time=timezone.now(), dataschema="1", data=0)
        told = words(admin_client.post(REVIEW, form(kind, schema, days="30")))
        assert "Looked at all 6 events of the last 30 days" in told
        assert "Refused 2 Accepted 3 Name a version themselves 1" in told
        assert "data.amount: 1 is less than the minimum of 2" in told
        monkeypatch.setattr("events.review.Review.step.__defaults__", (0.0,))
        first: Any = admin_client.post(REVIEW, form(kind, schema, days="1"))
        assert b'hx-trigger="load' in first.content
        on: Any = admin_client.post(REVIEW, {"schema_review": first.context["state"]})
        assert on.context["review"].seen == 2

    @pytest.mark.parametrize(
        "wrong", [{"type": "9" * 30}, {"type": "x"}, {"schema": "\0"}, {"schema": ""}, {"schema_review": "a:b:c"}]
    )
    def test_nothing_that_is_sent_raises(self, admin_client: Client, kind: EventType, wrong: Any) -> None:
        for url in (CHECK, REVIEW):
            words(admin_client.post(url, {**form(kind, ORDER), **wrong, "days": "8"}))

    def test_whoever_may_only_look_tries_the_latest_version(self, client: Client, kind: EventType) -> None:
        viewer = User.objects.create_user("looks", is_staff=True)
        client.force_login(viewer)
        for url in (CHECK, REVIEW):
            assert client.post(url, {"type": kind.pk, "days": "1"}).status_code == 403
        viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
        assert "Accepted 5" in words(client.post(REVIEW, {"type": kind.pk, "days": "1"}))
        assert "Accepted 5" in words(client.post(REVIEW, form(kind, NO_AMOUNT, days="1")))
        assert 'id="check"' not in client.get(page(kind)).content.decode()


class TestSending:
    SENT = {"source": "/shop", "subject": "A-9", "data": '{"order_id": "A-9", "amount": 9}'}

    @pytest.fixture(autouse=True)
    def shop(self, kind: EventType) -> Source:
        return Source.objects.create(name="shop", rate_limit="1000/s")

    def test_it_is_stored_like_any_other(self, admin_client: Client, kind: EventType) -> None:
        url = page(kind, "send")
        assert url in admin_client.get(page(kind)).content.decode()
        offered: Any = admin_client.get(url)
        assert offered.context["form"].initial["data"] == {"order_id": "A-4", "amount": 4}  # the newest event's
        answer = admin_client.post(url, self.SENT)
        event = Event.objects.latest("uid")
        assert answer.headers["Location"] == reverse("admin:events_event_change", args=[event.pk])
        assert (event.source, event.type, event.subject) == ("/shop", "order.paid", "A-9")
        assert event.data == {"order_id": "A-9", "amount": 9}
        assert event.due_at is not None
        assert str(event.uid) in LogEntry.objects.get().change_message

    def test_the_example_is_offered_first(self, admin_client: Client, kind: EventType) -> None:
        EventType.objects.update(example={"order_id": "example", "amount": 1})
        offered: Any = admin_client.get(page(kind, "send"))
        assert offered.context["form"].initial["data"]["order_id"] == "example"

    def test_it_is_refused_as_an_http_request_is(self, admin_client: Client, kind: EventType) -> None:
        for given, field, said in (
            ({"data": '{"order_id": 9}'}, "data", 'data: "amount" is a required property'),
            ({"data": "[" * 200 + "]" * 200}, "__all__", "nested more than 100 levels"),
            ({"data": '{"order_id": "A", "amount": 99999999999999999999999}'}, "__all__", "more than 64 bits"),
            ({"data": '{"order_id": "A", "amount": NaN}'}, "__all__", "not JSON"),
            ({"data": '{"order_id": "\\ud800", "amount": 1}'}, "__all__", "not JSON"),
            ({"data": '{"order_id": "\\u0000", "amount": 1}'}, "data", "NUL"),
            ({"data": '"' + "x" * 300_000 + '"'}, "__all__", "at most 262,144"),
            ({"source": "/elsewhere"}, "source", "valid choice"),
            ({"subject": "a\0b"}, "subject", "Null characters"),
            ({"data": "{"}, "data", "this is not JSON"),
        ):
            response: Any = admin_client.post(page(kind, "send"), {**self.SENT, **given})
            assert response.status_code == 200
            assert said in " ".join(response.context["form"].errors[field]), given
        EventType.objects.update(retired=True)
        assert "is retired" in words(admin_client.post(page(kind, "send"), self.SENT))
        assert Event.objects.count() == 5

    def test_a_disabled_source_is_not_offered_and_carillons_own_is(self, admin_client: Client, kind: EventType) -> None:
        Source.objects.update(enabled=False)
        offered: Any = admin_client.get(page(kind, "send"))
        assert offered.context["form"].fields["source"].choices == [("/carillon", "/carillon")]
        assert admin_client.post(page(kind, "send"), {**self.SENT, "source": "/carillon"}).status_code == 302

    def test_only_who_may_operate_events_sends(self, client: Client, kind: EventType) -> None:
        viewer = User.objects.create_user("looks", is_staff=True)
        viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
        client.force_login(viewer)
        assert client.post(page(kind, "send"), self.SENT).status_code == 403
        assert page(kind, "send") not in client.get(page(kind)).content.decode()
        viewer.user_permissions.add(Permission.objects.get(codename="change_event"))
        assert page(kind, "send") in client.get(page(kind)).content.decode()
        assert client.post(page(kind, "send"), self.SENT).status_code == 302
