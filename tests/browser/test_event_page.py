"""The page of an event: the whole story while it happens, and hearing of it again."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from playwright.sync_api import expect

from events import replay, routing
from events.models import Event, Replay, Source, Subscription
from notifications.models import Channel, Template
from tests.browser.conftest import Admin
from tests.browser.test_run_page import go_on
from tests.events.conftest import event_type
from tests.sinks import Answer, HttpSink
from workflows.models import Run, StepRun
from workflows.publishing import publish

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAID = """\
name: order-paid
steps:
  - {id: keep, action: record.put, with: {collection: orders, key: "${{ event.id }}", value: "${{ event.data }}"}}
  - {id: tell, action: notify, with: {to: ["channel:shop"], template: paid}}
"""
LARGE = """\
name: large-order
steps:
  - {id: ask, action: approval, with: {timeout: 2h}}
"""


def happened(http_sink: HttpSink, **data: Any) -> Event:
    """An event that waits to be routed, which two of three subscriptions will hear."""
    http_sink.answers["/shop"] = [Answer(503, b"Closed for lunch"), Answer(200, b"Thank you")]
    Channel.objects.create(
        name="shop", type="webhook", settings={"url": http_sink.url("/shop")}, retry_schedule=["0s", "1s"]
    )
    Template.objects.create(name="paid", subject="Order {{ event.subject }}", text="It was paid.")
    event_type("order.paid")
    Source.objects.create(name="shop")
    for name, source, only in (
        ("paid-orders", PAID, ""),
        ("large-orders", LARGE, "event.data.amount > 100.0"),
        ("huge-orders", LARGE, "event.data.amount > 10000.0 && event.data.customer.vip"),
    ):
        version, _ = publish(source)
        Subscription.objects.create(name=name, types=["order.paid"], workflow=version.workflow, filter=only)
    now = timezone.now()
    return Event.objects.create(
        source="/shop",
        event_id="payment-1",
        type="order.paid",
        subject="A-1001",
        time=now,
        due_at=now,
        data={"order_id": "A-1001", "amount": 250.0, "customer": {"name": "Ada", "vip": False}} | data,
    )


def work() -> None:
    while routing.route() or replay.replay():
        pass
    go_on()


def test_the_story_is_told_while_it_happens(admin: Admin, http_sink: HttpSink) -> None:
    event = happened(http_sink)
    page = admin.page
    admin.open(f"events/event/{event.pk}/change/")
    expect(page.get_by_text("Nobody has been asked yet")).to_be_visible()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.evaluate("window.unbroken = true")
    work()
    content = page.locator("#content")
    expect(content).to_contain_text("event.data.amount > 10000.0 is false (event.data.amount = 250.0)")
    expect(content).to_contain_text("Closed for lunch")
    row = page.locator(".timeline-row", has_text="shop").last
    expect(row).to_contain_text("pending")
    sent = page.locator("[id^=sent-] > summary")
    sent.click()
    http_sink.wait_for(1)
    for _ in range(3):
        page.wait_for_timeout(700)
        go_on()
    expect(page.locator(".timeline-row", has_text="delivered")).to_have_count(1)
    expect(page.locator("[id^=sent-]")).to_have_attribute("open", "")
    expect(content).to_contain_text("Thank you")
    assert page.evaluate("window.unbroken"), "it was never loaded anew"
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.reload()
        for width in (1280, 390):
            admin.picture(f"event-page-{theme}-{width}", width=width)


def test_what_is_copied_is_a_command_that_sends_it_again(admin: Admin, http_sink: HttpSink) -> None:
    event = happened(http_sink)
    work()
    page = admin.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    admin.open(f"events/event/{event.pk}/change/")
    page.get_by_role("button", name="Copy the uid").click()
    expect(page.get_by_role("button", name="Copy the uid")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == str(event.pk)
    page.get_by_text("Copy as curl").click()
    expect(page.get_by_text("Copied").nth(1)).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl http")


def test_it_is_replayed_to_one_subscription_after_saying_what_will_happen(admin: Admin, http_sink: HttpSink) -> None:
    event = happened(http_sink)
    work()
    page = admin.page
    admin.open(f"events/event/{event.pk}/change/")
    page.click("a:text-is('Replay') >> nth=0")
    expect(page.get_by_text("All subscriptions")).to_be_visible()
    expect(page.get_by_text("2 runs will be started")).to_be_visible()
    expect(page.get_by_text("no run will be started: event.data.amount > 10000.0 is false")).to_be_visible()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.reload()
        for width in (1280, 390):
            admin.picture(f"replay-{theme}-{width}", width=width)
    page.get_by_label("large-orders").check()
    page.click("button:text-is('Replay')")
    expect(page.get_by_text("Replay 1 was asked for.")).to_be_visible()
    expect(page.get_by_text("to large-orders, by admin")).to_be_visible()
    work()
    expect(page.locator("#content").get_by_text("replay 1", exact=True)).to_have_count(1)
    assert Run.objects.get(replay=1).trigger == "large-orders"
    admin.picture("event-page-replayed")
    page.get_by_role("link", name="Replay to huge-orders").first.click()
    expect(page.get_by_label("huge-orders")).to_be_checked()


def test_who_may_only_look_sees_the_story_and_no_button(admin: Admin, http_sink: HttpSink) -> None:
    event = happened(http_sink)
    work()
    viewer = User.objects.create_user("grace", password="a password for tests", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    page = admin.page
    admin.log_out()
    admin.log_in("grace", "a password for tests")
    admin.open(f"events/event/{event.pk}/change/")
    expect(page.locator("#content")).to_contain_text("large-orders")
    expect(page.get_by_text("Replay")).to_have_count(0)
    answer = requests.get(f"{admin.url}/admin/events/event/{event.pk}/replay", timeout=10)
    assert "Log in" in answer.text
    assert not Replay.objects.exists()
    assert StepRun.objects.exists()
