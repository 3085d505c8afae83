"""A subscription's page tells what its filter says, tries it on stored events, and asks before much changes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from events.models import Event, EventType, Source, Subscription
from tests.events.test_dry_run import store, subscribe, workflow
from workflows.models import Workflow

pytestmark = pytest.mark.django_db

CHECK = reverse("admin:events_subscription_check")
DRY_RUN = reverse("admin:events_subscription_dry_run")
ADD = reverse("admin:events_subscription_add")


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def saved() -> Subscription:
    """A subscription to notes, of which fifty came: it matches the first twelve."""
    store(50)
    return subscribe("s", "note", to=workflow(), filter="event.data.n < 12")


def form(saved: Subscription | None = None, **values: Any) -> dict[str, Any]:
    """What the browser sends of the page's form."""
    row = saved or Subscription(name="new", types=["note"], workflow=workflow(), enabled=True)
    return {
        "name": row.name,
        "types": ", ".join(row.types),
        "filter": row.filter,
        "workflow": row.workflow_id,
        "enabled": "on",
        **({"subscription": row.pk} if saved else {}),
        **values,
    }


def words(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def change(row: Subscription) -> str:
    return reverse("admin:events_subscription_change", args=[row.pk])


class TestCheck:
    def test_the_latest_events_are_told_with_the_clause_that_decided(
        self, admin_client: Client, saved: Subscription
    ) -> None:
        told = words(admin_client.post(CHECK, form(saved, filter="event.data.n > 47 && event.data.n > 48")))
        assert told.startswith("The filter compiles.")
        assert told.count("matched") == 1
        assert told.count(" filtered ") == 5 + 1  # and what the saved version said
        assert "event.data.n &gt; 48 is false (event.data.n = 48)" in told
        assert "event.data.n &gt; 47 is false (event.data.n = 47)" in told

    def test_an_error_has_its_place(self, admin_client: Client, saved: Subscription) -> None:
        response = admin_client.post(CHECK, form(saved, filter="event.data.n >\n  evnt.data.n"))
        assert 'line 2, column 3: unknown variable "evnt"' in words(response).replace("&quot;", '"')
        assert b'data-line="2" data-column="3"' in response.content

    def test_what_is_wrong_with_the_types_is_told(self, admin_client: Client, saved: Subscription) -> None:
        told = words(admin_client.post(CHECK, form(saved, types="nota, no*te")))
        assert "Types: unknown event type" in told
        assert "a * stands only at the end" in told

    def test_without_events_the_examples_are_asked(self, admin_client: Client) -> None:
        EventType.objects.create(name="note", example={"n": 3})
        assert "matched" in words(admin_client.post(CHECK, form(filter="event.data.n == 3")))
        assert "event.data.n == 4 is false" in words(admin_client.post(CHECK, form(filter="event.data.n == 4")))
        EventType.objects.update(example=None)
        assert "A test event can be sent" in words(admin_client.post(CHECK, form()))

    def test_a_form_that_is_hardly_filled_in_is_no_mistake(self, admin_client: Client) -> None:
        assert words(admin_client.post(CHECK, {"types": "", "filter": ""})).startswith("Name the event types")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"types": "a\0b"},
            {"types": "x" * 300},
            {"filter": "\0"},
            {"filter": "x" * 5000},
            {"sources": "nonsense"},
            {"sources": "999999"},
            {"workflow": "999999"},
            {"workflow": "☃"},
            {"subscription": "9" * 30},
            {"subscription": "²"},
            {"review": "x", "dry_run": "x:y:z", "days": "8"},
        ],
    )
    def test_nothing_that_is_sent_raises(self, admin_client: Client, saved: Subscription, wrong: Any) -> None:
        for url in (CHECK, DRY_RUN):
            words(admin_client.post(url, form(saved, **wrong)))


class TestDryRun:
    def test_it_counts_shows_and_compares(self, admin_client: Client, saved: Subscription) -> None:
        response: Any = admin_client.post(DRY_RUN, form(saved, filter="event.data.n >= 10", days="7"))
        told = words(response)
        assert "Looked at all 50 events of the last 7 days" in told
        assert {it["name"]: it["count"] for it in response.context["found"]} == {
            "newly": 38,
            "no longer": 10,
            "error": 0,
            "matched": 40,
            "filtered": 10,
        }
        assert "saved version: 12" in told
        newest = Event.objects.get(data={"n": 9})
        assert reverse("admin:events_event_change", args=[newest.pk]) in response.content.decode()
        assert "event.data.n &gt;= 10 is false (event.data.n = 9)" in told

    def test_it_goes_on_from_where_it_was(
        self, admin_client: Client, saved: Subscription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("events.review.Review.step.__defaults__", (0.0,))
        first: Any = admin_client.post(DRY_RUN, form(saved, filter="event.data.n >= 10", days="1"))
        assert b'hx-trigger="load' in first.content
        assert first.context["review"].seen == 1
        # The form may say something else by now: what was begun goes on.
        second: Any = admin_client.post(DRY_RUN, form(saved, filter="", dry_run=first.context["state"]))
        assert second.context["review"].seen == 2
        assert second.context["review"].counts["newly"] == 2

    def test_what_one_person_began_another_cannot_go_on_with(
        self, admin_client: Client, client: Client, saved: Subscription
    ) -> None:
        state = admin_client.post(DRY_RUN, form(saved, days="1")).context["state"]
        client.force_login(User.objects.create_superuser("other"))
        assert "Choose over how many days" in words(client.post(DRY_RUN, form(saved, dry_run=state)))

    def test_a_filter_that_does_not_compile_is_not_run(self, admin_client: Client, saved: Subscription) -> None:
        told = words(admin_client.post(DRY_RUN, form(saved, filter="event.data.n >", days="1")))
        assert "does not compile: line 1, column 15" in told

    def test_a_database_that_is_busy_is_told_and_can_be_asked_again(
        self, admin_client: Client, saved: Subscription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("events.stored._PAGE", "SELECT pg_sleep(1)")
        monkeypatch.setattr("project.reading.SLOWEST", 50)
        busy: Any = admin_client.post(DRY_RUN, form(saved, days="1"))
        assert "PostgreSQL did not answer in time." in words(busy)
        assert b'hx-trigger="load' not in busy.content  # it does not ask by itself
        assert "did not answer in time" in words(admin_client.post(CHECK, form(saved)))
        monkeypatch.undo()
        on: Any = admin_client.post(DRY_RUN, {"dry_run": busy.context["state"]})
        assert on.context["review"].seen == 50

    def test_it_is_nothing_for_get_nor_for_who_may_not_see_events(self, client: Client, saved: Subscription) -> None:
        viewer = User.objects.create_user("looks", is_staff=True)
        viewer.user_permissions.set(Permission.objects.filter(codename="view_subscription"))
        client.force_login(viewer)
        assert client.get(DRY_RUN).status_code == 405
        for url in (CHECK, DRY_RUN):
            assert client.post(url, form(saved, days="1")).status_code == 403
        shown = client.get(change(saved)).content.decode()
        assert 'id="dry_run"' not in shown
        assert 'id="check"' not in shown
        viewer.user_permissions.add(Permission.objects.get(codename="view_event"))
        # Whoever may only look tries the subscription as it is.
        told: Any = client.post(DRY_RUN, {"subscription": saved.pk, "days": "1"})
        assert told.context["review"].counts["matched"] == 12
        # By a filter of their own they could read, letter by letter, what they are not shown.
        asked: Any = client.post(DRY_RUN, form(saved, filter="event.data.n < 40", days="1"))
        assert asked.context["review"].counts == {"matched": 12, "filtered": 38}
        assert "event.data.n &lt; 12 is false" in words(client.post(CHECK, form(saved, filter="event.data.n < 40")))

    def test_whose_session_has_ended_is_led_to_the_login_by_the_page(self, client: Client) -> None:
        page = {"HX-Request": "true", "HX-Current-URL": "http://testserver/admin/events/subscription/1/change/"}
        answer = client.post(DRY_RUN, headers=page)
        assert answer.headers["HX-Redirect"] == "/admin/login/?next=/admin/events/subscription/1/change/"


class TestSaving:
    def save(self, client: Client, saved: Subscription, **values: Any) -> Any:
        return client.post(change(saved), form(saved, **values), follow=True)

    def test_the_impact_is_told(self, admin_client: Client, saved: Subscription) -> None:
        told = words(self.save(admin_client, saved, filter="event.data.n < 13"))
        assert "It would have started 13 runs in the last 7 days instead of 12." in told

    def test_much_is_asked_for_first(self, admin_client: Client, saved: Subscription, settings: Any) -> None:
        settings.SUBSCRIPTION_CONFIRM_ABOVE = 37
        response = self.save(admin_client, saved, filter="")
        assert "It would have started 50 runs in the last 7 days instead of 12. Is that what you want?" in words(
            response
        )
        saved.refresh_from_db()
        assert saved.filter == "event.data.n < 12"
        mark = response.context["adminform"].form.asks
        # What was ticked for one filter is not ticked for another.
        other = self.save(admin_client, saved, filter="event.data.n >= 10", confirmed=mark)
        assert other.context["adminform"].form.asks not in ("", mark)
        told = words(self.save(admin_client, saved, filter="", confirmed=mark))
        assert "It would have started 50 runs in the last 7 days instead of 12." in told
        saved.refresh_from_db()
        assert saved.filter == ""

    def test_little_is_not(self, admin_client: Client, saved: Subscription, settings: Any) -> None:
        settings.SUBSCRIPTION_CONFIRM_ABOVE = 38
        self.save(admin_client, saved, filter="")
        saved.refresh_from_db()
        assert saved.filter == ""

    def test_a_subscription_that_falls_silent_is_asked_about_too(
        self, admin_client: Client, saved: Subscription, settings: Any
    ) -> None:
        settings.SUBSCRIPTION_CONFIRM_ABOVE = 11
        response = self.save(admin_client, saved, filter="event.data.n > 1000")
        assert "It would have started 0 runs in the last 7 days instead of 12. Is that" in words(response)

    def test_a_new_one_is_weighed_by_itself(self, admin_client: Client, settings: Any) -> None:
        settings.SUBSCRIPTION_CONFIRM_ABOVE = 40
        store(41, ago=timedelta(days=6))
        store(60, ago=timedelta(days=8))
        Source.objects.create(name="shop")
        response = admin_client.post(ADD, form())
        assert "It would have started 41 runs in the last 7 days. Is that" in words(response)
        shop = Source.objects.get()
        assert admin_client.post(ADD, form(sources=[shop.pk], filter="event.data.n > 0")).status_code == 302
        assert [it.name for it in Subscription.objects.get().sources.all()] == ["shop"]

    def test_what_decides_nothing_is_not_weighed(
        self, admin_client: Client, saved: Subscription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("events.stored._PAGE", "nobody may ask for this")
        told = words(self.save(admin_client, saved, description="New"))
        assert "would have" not in told
        assert Subscription.objects.get().description == "New"

    def test_a_busy_database_does_not_keep_anybody_from_saving(
        self, admin_client: Client, saved: Subscription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("events.stored._PAGE", "SELECT pg_sleep(1)")
        monkeypatch.setattr("project.reading.SLOWEST", 50)
        told = words(self.save(admin_client, saved, filter=""))
        assert "could not be told" in told
        saved.refresh_from_db()
        assert saved.filter == ""

    def test_a_form_with_mistakes_is_not_weighed(self, admin_client: Client, saved: Subscription) -> None:
        response = self.save(admin_client, saved, filter="event.data.n >")
        assert response.context["adminform"].form.impact is None


def test_the_page_of_a_subscription_to_a_deleted_type_still_answers(admin_client: Client, saved: Subscription) -> None:
    EventType.objects.all().delete()
    Event.objects.create(source="/a", event_id=str(uuid4()), type="other", time=timezone.now())
    assert admin_client.get(change(saved)).status_code == 200
    assert "Types: unknown event type" in words(admin_client.post(CHECK, form(saved)))
    Workflow.objects.update(enabled=False)
    told = words(admin_client.post(DRY_RUN, {"subscription": saved.pk, "days": "1"}))
    assert "It is disabled and starts nothing" in told


def test_sources_are_found_while_they_are_typed(admin_client: Client) -> None:
    for name in ("shop", "warehouse"):
        Source.objects.create(name=name)
    fields = {"app_label": "events", "model_name": "subscription", "field_name": "sources", "term": "sh"}
    assert [it["text"] for it in admin_client.get("/admin/autocomplete/", fields).json()["results"]] == ["shop"]
