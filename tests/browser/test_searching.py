"""From "a customer says no mail came" to the cause, by somebody who may only look."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone
from playwright.sync_api import Page, expect

from events import routing
from events.models import Event, EventType, Source, Subscription
from notifications.models import Channel, Delivery, Recipient, Template
from project.identifiers import first_uid_at
from project.roles import Role
from tests.browser.conftest import PASSWORD, Admin
from tests.browser.test_run_page import go_on
from tests.sinks import Answer, HttpSink
from workflows.models import Run
from workflows.publishing import publish

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAID = """\
name: order-paid
steps:
  - {id: tell, action: notify, with: {to: ["channel:shop"], template: paid}}
"""


@pytest.fixture
def viewer(quiet_page: Page, live_server: Any) -> Admin:
    """The admin, logged in as somebody with the role viewer."""
    user = User.objects.create_user("grace", password=PASSWORD, is_staff=True)
    user.groups.set(Group.objects.filter(name=Role.VIEWER))
    there = Admin(quiet_page, live_server.url, Path(wanted) if (wanted := os.environ.get("SCREENSHOTS")) else None)
    there.log_in("grace", PASSWORD)
    return there


@pytest.fixture
def order(http_sink: HttpSink) -> Event:
    """A paid order among others, whose message the shop's endpoint refused."""
    http_sink.answers["/shop"] = [Answer(410, b"This hook was removed")]
    Channel.objects.create(name="shop", type="webhook", settings={"url": http_sink.url("/shop")}, retry_schedule=["0s"])
    Template.objects.create(name="paid", subject="Order {{ event.subject }}", text="It was paid.")
    Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"})
    Source.objects.create(name="shop")
    for name in ("order.paid", "order.sent"):
        EventType.objects.create(name=name)
    version, _ = publish(PAID)
    Subscription.objects.create(name="paid-orders", types=["order.paid"], workflow=version.workflow)
    now = timezone.now()
    for n in range(60):
        at = now - timedelta(minutes=n + 1)
        Event.objects.create(
            uid=first_uid_at(at),
            source="/shop",
            event_id=f"sent-{n}",
            type="order.sent",
            subject=f"B-{n}",
            time=at,
            received_at=at,
            routed_at=at,
            data={"customer": "Grace"},
        )
    event = Event.objects.create(
        source="/shop",
        event_id="payment-1",
        type="order.paid",
        subject="A-1001",
        time=now,
        due_at=now,
        data={"order_id": "A-1001", "customer": "Ada Lovelace"},
    )
    while routing.route():
        pass
    go_on()
    return event


def search(there: Admin, text: str) -> None:
    there.page.fill("#searchbar", text)
    there.page.keyboard.press("Enter")
    there.page.wait_for_load_state()
    expect(there.page.locator("#searchbar")).to_have_value(text)


def rows(there: Admin) -> Any:
    return there.page.locator("#result_list tbody tr")


def test_from_a_customers_name_to_the_cause(viewer: Admin, order: Event) -> None:
    page = viewer.page
    viewer.open("events/event/")
    search(viewer, "lovelace")
    expect(rows(viewer)).to_have_count(1)
    rows(viewer).get_by_role("link").first.click()
    expect(page.locator("#content")).to_contain_text("This hook was removed")
    run, delivery = Run.objects.get(), Delivery.objects.get()
    viewer.open("notifications/delivery/")
    search(viewer, f"event:{order.pk}")
    expect(rows(viewer)).to_have_count(1)
    expect(rows(viewer)).to_contain_text("failed")
    viewer.open(f"workflows/run/{run.pk}/change/")
    page.locator("#content").get_by_role("link", name="Deliveries", exact=True).click()
    expect(page.locator("#searchbar")).to_have_value(f"run:{run.pk}")
    rows(viewer).get_by_role("link").first.click()
    assert f"/delivery/{delivery.pk}/change/" in page.url
    expect(page.locator("#content")).to_contain_text("410")


def test_every_field_finds(viewer: Admin, order: Event) -> None:
    run, delivery = Run.objects.get(), Delivery.objects.get()
    for path, texts in {
        "events/event/": (
            *(f"uid:{order.pk}", str(order.pk), "id:payment-1", "payment-1", "type:order.paid", "subject:A-1001"),
            *("type:order.p*", "source:/shop type:order.paid", "since:1h ada", 'A-1001 "Ada Lovelace"'),
        ),
        "workflows/run/": (
            *(f"uid:{run.pk}", f"event:{order.pk}", "workflow:order-paid", "subscription:paid-orders"),
            *("state:succeeded", "A-1001", "since:1h until:0s"),
        ),
        "notifications/delivery/": (
            *(f"uid:{delivery.pk}", f"run:{run.pk}", "channel:shop", "template:paid", "state:failed", "410", "A-1001"),
            *("workflow:order-paid", "subscription:paid-orders"),
        ),
    }.items():
        viewer.open(path)
        for text in texts:
            search(viewer, text)
            expect(rows(viewer), text).to_have_count(1)


def test_what_means_nothing_says_what_would(viewer: Admin, order: Event) -> None:
    page = viewer.page
    viewer.open("events/event/")
    page.get_by_text("What can be searched for").click()
    expect(page.get_by_text("its source, and what is below that: /shop")).to_be_visible()
    for width in (1280, 390):
        viewer.picture(f"search-help-{width}", width=width, whole=False)
    search(viewer, "sorce:/shop")
    expect(page.get_by_role("alert")).to_contain_text('Unknown field "sorce", did you mean "source"?')
    expect(page.get_by_role("heading", name="Nothing was searched")).to_be_visible()
    search(viewer, "nobody-at-all")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(rows(viewer)).to_have_count(50)


def test_pages_and_filters(viewer: Admin, order: Event) -> None:
    page = viewer.page
    viewer.open("events/event/")
    expect(page.get_by_text("61 events")).to_be_visible()
    page.get_by_role("link", name="Older").click()
    expect(rows(viewer)).to_have_count(11)
    page.get_by_role("link", name="Newest").click()
    expect(rows(viewer)).to_have_count(50)
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.locator("a", has_text="Filters").first.click()
    expect(page.locator("#filter-form")).to_be_visible()
    page.fill("[name=received_at_to_0]", f"{timezone.now() - timedelta(days=1):%Y-%m-%d}")
    page.get_by_role("button", name="Apply Filters").click()
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    for width in (1280, 390):
        viewer.picture(f"search-empty-{width}", width=width)


def test_a_long_search_is_gone_on_with(viewer: Admin, order: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.searching.FIRST_STEP", 20)
    monkeypatch.setattr("project.searching.PATIENCE", -1.0)
    Event.objects.filter(event_id="sent-50").update(data={"customer": "Katherine"})
    page = viewer.page
    viewer.open("events/event/")
    search(viewer, "katherine")
    expect(page.get_by_role("heading", name="Nothing so far")).to_be_visible()
    expect(page.get_by_text("Searched back to")).to_be_visible()
    for width in (1280, 390):
        viewer.picture(f"search-goes-on-{width}", width=width)
    page.get_by_role("link", name="Go on searching").click()
    page.get_by_role("link", name="Go on searching").click()
    expect(rows(viewer)).to_have_count(1)
    expect(rows(viewer)).to_contain_text("B-50")
