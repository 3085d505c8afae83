"""An editor writes a filter and a schema and sees what they would do, before they do it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction
from playwright.sync_api import Page, expect

from events import ingest
from events.cloudevents import Incoming
from events.models import EventType, Source, Subscription
from project.stage import stages
from tests.browser.conftest import Admin
from tests.browser.test_admin import SCHEMA, process
from tests.events.test_dry_run import store
from workflows.models import Run
from workflows.publishing import publish

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

KEEP = """\
name: order-paid
steps:
  - id: keep
    action: record.put
    with: {collection: orders, key: "${{ event.data.order_id }}", value: "${{ event.data.amount }}"}
"""
CUSTOMERS = ("Ada", "Grace", "Edsger", "Barbara")


@pytest.fixture
def shop(settings: Any, redis_url: str) -> Subscription:
    """A shop whose paid orders really came in and were routed, and a subscription to the large ones."""
    settings.SUBSCRIPTION_CONFIRM_ABOVE = 20
    Source.objects.create(name="shop")
    kind = EventType.objects.create(name="order.paid", description="An order was paid in full.")
    with transaction.atomic():
        kind.add_schema(json.loads(SCHEMA))
    version, _ = publish(KEEP)
    saved = Subscription.objects.create(
        name="large-orders", types=["order.*"], filter="event.data.amount > 900.0", workflow=version.workflow
    )
    for number in range(120):
        data: dict[str, Any] = {"order_id": f"A-{number}", "amount": 10.0 * number}
        if number % 3:
            data["customer"] = CUSTOMERS[number % 4]
        ingest.accept([Incoming("order.paid", data, subject=f"A-{number}")], source="/shop")
    process()
    return saved


def themes(admin: Admin, name: str) -> None:
    for theme in ("light", "dark"):
        admin.page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", theme == "dark")
        admin.picture(f"{name}-{theme}-1280")
        admin.picture(f"{name}-{theme}-390", width=390)
    admin.page.evaluate("document.documentElement.classList.remove('dark')")
    admin.page.set_viewport_size({"width": 1280, "height": 900})


def test_an_editor_tries_a_filter_before_it_is_saved(admin: Admin, shop: Subscription) -> None:
    page = admin.page
    admin.open(f"events/subscription/{shop.pk}/change/")
    check, dry_run = page.locator("#check"), page.locator("#dry_run")
    expect(check).to_contain_text("The filter compiles.")
    expect(check.locator("li")).to_have_count(6)
    expect(check.locator("li").first).to_contain_text("A-119")

    admin.write("filter", "event.data.amount > 500.0 && event.data.custmer == 'Ada'")
    expect(check).to_contain_text("no such key: custmer")
    themes(admin, "rules-check")
    admin.write("filter", "event.data.amount > 500.0 &&\n  evnt.data.customer == 'Ada'")
    expect(check).to_contain_text('line 2, column 3: unknown variable "evnt"')
    expect(page.locator(".editor-place")).to_have_text("e")
    themes(admin, "rules-problem")
    admin.write("filter", "event.data.amount > 500.0 && event.data.customer == 'Ada'")
    expect(check).to_contain_text("The filter compiles.")
    expect(page.locator(".editor-place")).to_have_count(0)
    expect(check).to_contain_text("event.data.customer == 'Ada' is false")

    page.click("#dry_run [name=days][value='7']")
    expect(dry_run).to_contain_text("Looked at all 120 events of the last 7 days")
    expect(dry_run.locator("[data-name=matched]")).to_contain_text("saved version: 29")
    expect(dry_run.locator("[data-name=newly] .fact-title")).to_have_text("7")
    expect(dry_run.locator("[data-name='no longer'] .fact-title")).to_have_text("24")
    themes(admin, "rules-dry-run")

    page.click("[name=_save]")
    expect(page.locator("#content")).to_contain_text("runs in the last 7 days instead of 29. Is that what you want?")
    themes(admin, "rules-confirm")
    page.check("[name=confirmed]")
    page.click("[name=_save]")
    expect(page.locator("#result_list")).to_be_visible()
    expect(page.get_by_text("It would have started 12 runs in the last 7 days instead of 29.")).to_be_visible()
    shop.refresh_from_db()
    assert "'Ada'" in shop.filter
    assert Run.objects.count() == 29, "nothing was run by trying"


def test_a_long_dry_run_shows_how_far_it_is_and_stops(admin: Admin, shop: Subscription, monkeypatch: Any) -> None:
    for hours in range(1, 11):
        store(
            300,
            type_="order.paid",
            ago=timedelta(hours=hours),
            data=lambda n: {"order_id": f"B-{n}", "amount": 4.0 * n},
        )
    monkeypatch.setattr("events.review.Review.step.__defaults__", (0.02,))
    page = admin.page
    admin.open(f"events/subscription/{shop.pk}/change/")
    dry_run = page.locator("#dry_run")
    page.click("#dry_run [name=days][value='1']")
    expect(dry_run).to_contain_text("events so far")
    page.click("#dry_run-stop")
    expect(dry_run).to_contain_text("stopped")
    themes(admin, "rules-stopped")
    stopped_at = page.locator("#dry_run [role=progressbar]").get_attribute("aria-valuenow")
    page.wait_for_timeout(500)
    assert page.locator("#dry_run [role=progressbar]").get_attribute("aria-valuenow") == stopped_at
    page.click("#dry_run-go-on")
    expect(dry_run).to_contain_text("events so far")
    expect(dry_run).to_contain_text("Looked at all 3,120 events of the last day", timeout=60_000)


def test_a_panel_says_when_the_server_does_not_answer(page: Page, live_server: Any, shop: Subscription) -> None:
    User.objects.create_superuser("admin", password="a password for tests")
    admin = Admin(page, live_server.url, None)  # whose console may tell of the error
    admin.log_in("admin", "a password for tests")
    admin.open(f"events/subscription/{shop.pk}/change/")
    expect(page.locator("#check")).to_contain_text("The filter compiles.")
    page.route("**/dry-run/", lambda route: route.abort())
    page.click("#dry_run [name=days][value='7']")
    expect(page.locator("#dry_run[data-lost]")).to_be_visible()
    page.unroute("**/dry-run/")
    page.click("#dry_run [name=days][value='7']")
    expect(page.locator("#dry_run")).to_contain_text("Looked at all 120 events")
    expect(page.locator("#dry_run[data-lost]")).to_have_count(0)


def test_a_new_subscription_is_tried_while_it_is_written(admin: Admin, shop: Subscription) -> None:
    page = admin.page
    EventType.objects.create(name="note", example={"text": "hello"})
    admin.open("events/subscription/add/")
    expect(page.locator("#check")).to_contain_text("Name the event types that it is to hear of.")
    themes(admin, "rules-add-empty")
    page.fill("#id_types", "note")
    expect(page.locator("#check")).to_contain_text("No event of these types is stored yet; to their examples it says:")
    admin.write("filter", "event.data.text == 'bye'")
    expect(page.locator("#check")).to_contain_text('(event.data.text = "hello")')
    page.fill("#id_types", "order.paid")
    admin.write("filter", "event.data.amount > 1000.0")
    expect(page.locator("#check li").first).to_contain_text("matched")
    page.click(".select2-selection")
    page.click(".select2-results__option:has-text('shop')")
    page.click("#dry_run [name=days][value='1']")
    expect(page.locator("#dry_run [data-name=matched] .fact-title")).to_have_text("19")
    themes(admin, "rules-add")


def test_a_schema_says_what_it_breaks_before_it_is_saved(admin: Admin, shop: Subscription) -> None:
    page = admin.page
    kind = EventType.objects.get()
    admin.open(f"events/eventtype/{kind.pk}/change/")
    expect(page.locator("#content")).to_contain_text("large-orders")
    expect(page.locator("#check")).to_contain_text("The schema in the form is the latest version.")
    themes(admin, "rules-type")
    admin.write("schema", '{"required": ["customer"], "properties": {"customer": {}, "order_id": {}}}')
    expect(page.locator("#check")).to_contain_text("event.data.amount")
    expect(page.locator("#check")).to_contain_text("is no longer declared")
    page.click("#schema_review [name=days][value='7']")
    expect(page.locator("#schema_review")).to_contain_text("Looked at all 120 events of the last 7 days")
    expect(page.locator("#schema_review [data-name=refused] .fact-title")).to_have_text("40")
    themes(admin, "rules-type-breaks")
    page.click("[name=_save]")
    expect(page.get_by_text("40 of the 120 events of the last 7 days would be refused")).to_be_visible()
    themes(admin, "rules-type-confirm")
    page.check("[name=confirmed]")
    page.click("[name=_save]")
    expect(page.locator("#result_list")).to_contain_text("version 2")


def test_a_test_event_goes_the_way_of_every_event(admin: Admin, shop: Subscription) -> None:
    page = admin.page
    kind = EventType.objects.get()
    admin.open(f"events/eventtype/{kind.pk}/change/")
    page.click("text=Send a test event")
    admin.write("data", '{"order_id": "T-1"}')
    page.fill("#id_subject", "T-1")
    page.click("text=Send it")
    expect(page.get_by_text('"amount" is a required property')).to_be_visible()
    themes(admin, "rules-send")
    admin.write("data", '{"order_id": "T-1", "amount": 5000.5}')
    page.select_option("#id_source", "/shop")
    page.click("text=Send it")
    expect(page.get_by_text("was sent.")).to_be_visible()
    stages["events.route"].drain_for(5)
    page.reload()
    expect(page.locator("#content")).to_contain_text("large-orders")
    expect(page.locator("#content")).to_contain_text("matched")


def test_whoever_may_only_look_tries_what_is_saved(page: Page, live_server: Any, shop: Subscription) -> None:
    viewer = User.objects.create_user("looks", password="a password for tests", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    there = Admin(page, live_server.url, None)
    there.log_in("looks", "a password for tests")
    there.open(f"events/subscription/{shop.pk}/change/")
    expect(page.locator("[name=_save]")).to_have_count(0)
    expect(page.locator("#check li")).to_have_count(6)
    page.click("#dry_run [name=days][value='30']")
    expect(page.locator("#dry_run [data-name=matched] .fact-title")).to_have_text("29")
    kind = EventType.objects.get()
    there.open(f"events/eventtype/{kind.pk}/change/")
    page.click("#schema_review [name=days][value='1']")
    expect(page.locator("#schema_review [data-name=accepted] .fact-title")).to_have_text("120")
    expect(page.get_by_text("Send a test event")).to_have_count(0)
