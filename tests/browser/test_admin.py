"""A person sets everything up by hand in the admin, a program sends an event, and its trace tells what happened.

`SCREENSHOTS=/tmp/pictures pytest tests/browser` takes every page, light and dark, wide and narrow, to look at; the
pictures of the documentation are taken by `make screenshots`.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
import requests
from django.utils import timezone
from playwright.sync_api import expect

from events.models import Event
from notifications.models import Channel, Delivery
from notifications.sender import Sender
from project import ledger
from project.identifiers import first_uid_at
from project.stage import stages
from tests.browser.conftest import Admin
from tests.sinks import HttpSink
from workflows.models import Run, StepRun

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SCHEMA = """{
  "type": "object",
  "required": ["order_id", "amount"],
  "properties": {
    "order_id": {"type": "string"},
    "amount": {"type": "number"},
    "customer": {"type": "string"}
  }
}"""

WORKFLOW = """\
name: order-paid
description: Keep the order and tell the shop
steps:
  - id: keep
    action: database.upsert
    with:
      model: ops.Order
      key: {order_id: "${{ event.data.order_id }}"}
      values: {amount: "${{ event.data.amount }}", customer: "${{ event.data.customer }}"}
  - id: tell
    action: notify
    with: {to: ["channel:shop-chat"], template: order-paid}
"""


def set_up(admin: Admin, hook: str) -> str:
    """Make everything by hand; returns the API key that the page showed."""
    page = admin.page
    admin.open("events/source/add/")
    page.click("h2:text-is('api')")
    page.fill("#id_name", "shop")
    admin.save()
    page.click("#result_list >> text=shop")
    page.click("text=Issue an API key")
    page.fill("#id_name", "checkout")
    page.click("text=Issue the key")
    key = page.inner_text("#api-key")

    admin.open("events/eventtype/add/")
    page.fill("#id_name", "order.paid")
    page.fill("#id_description", "An order was paid in full.")
    admin.write("schema", SCHEMA)
    admin.save()

    admin.open("notifications/template/add/")
    page.fill("#id_name", "order-paid")
    admin.write("subject", "Order {{ event.data.order_id }} paid")
    admin.write("text", "{{ event.data.customer }} paid {{ event.data.amount }}.")
    admin.save()

    admin.open("notifications/channel/add/")
    page.click("h2:text-is('slack')")
    page.fill("#id_name", "shop-chat")
    page.fill("#id_settings__url", hook)
    admin.save()

    admin.open("workflows/workflow/add/")
    admin.write("definition", WORKFLOW)
    admin.save()

    subscribe(admin, "paid-orders", "event.data.amount > 100.0")
    subscribe(admin, "big-orders", "event.data.amount > 1000.0")
    return key


def subscribe(admin: Admin, name: str, only: str) -> None:
    admin.open("events/subscription/add/")
    admin.page.fill("#id_name", name)
    admin.page.fill("#id_types", "order.paid")
    admin.write("filter", only)
    admin.page.select_option("#id_workflow", label="order-paid")
    admin.save()


def send(admin: Admin, key: str, number: int, amount: float, customer: str) -> None:
    event = {
        "type": "order.paid",
        "id": f"payment-{number}",
        "subject": f"A-{number}",
        "data": {"order_id": f"A-{number}", "amount": amount, "customer": customer},
    }
    headers = {"Authorization": f"Bearer {key}"}
    assert requests.post(f"{admin.url}/api/v1/events", json=event, headers=headers, timeout=10).status_code == 202


def process() -> None:
    """Do what is due, in this process and with a sender of its own, which leaves no thread behind."""
    for name in ("events.route", "workflows.advance"):
        stages[name].drain_for(5)
    sender = Sender()
    sender.drain()
    sender.stop()


def test_by_hand_from_nothing_to_the_trace_of_an_event(admin: Admin, http_sink: HttpSink, redis_url: str) -> None:
    page = admin.page
    key = set_up(admin, http_sink.url("/hooks/shop"))
    for number, (amount, customer) in enumerate([(120.5, "Ada"), (12.0, "Grace"), (2400.0, "Edsger")], start=1):
        send(admin, key, number, amount, customer)
    process()
    assert Run.objects.count() == 3
    send(admin, key, 4, 80.0, "Barbara")  # waits to be routed

    admin.open("events/event/")
    expect(page.locator("#result_list")).to_contain_text("waiting to be routed")
    admin.picture("all-events", whole=False)
    page.click("#result_list >> tr:has-text('A-1') >> a")
    for words in (
        "Ada",
        "matched",
        "filtered",
        "event.data.amount > 1000.0 is false",
        "succeeded",
        "shop-chat",
        "delivered",
    ):
        expect(page.locator("#content")).to_contain_text(words)
    admin.picture("all-trace")

    delivery = Delivery.objects.get(origin__in=StepRun.objects.filter(run__input__id="payment-1").values("uid"))
    page.click(f"a[href*='/delivery/{delivery.pk}'] >> nth=0")
    expect(page.locator("#content")).to_contain_text("Order A-1 paid")
    page.click("text=the run with this step")
    expect(page.locator("#content")).to_contain_text("database.upsert")
    page.click(f"#content >> text={Event.objects.get(event_id='payment-1').pk}")
    expect(page.locator("#content")).to_contain_text("big-orders")


def test_mistakes_are_marked_at_their_lines(admin: Admin) -> None:
    page = admin.page
    admin.open("workflows/workflow/add/")
    admin.write("definition", WORKFLOW.replace("database.upsert", "database.upsrt").replace("order_id}}", "order_id"))
    page.click("[name=_save]")
    expect(page.locator(".editor-problem").first).to_contain_text('did you mean "database.upsert"?')
    expect(page.locator(".editor-problem-line").first).to_be_visible()
    admin.picture("all-workflow-problems")
    admin.open("events/eventtype/add/")
    page.fill("#id_name", "order.paid")
    admin.write("schema", '{\n  "type": "object"\n  "required": []\n}')
    page.click("[name=_save]")
    expect(page.locator(".editor-problem")).to_contain_text("Line 3, column 3: this is not JSON")
    page.once("dialog", lambda dialog: dialog.accept())
    admin.open("")


def test_a_channel_is_disabled_in_a_dialog(admin: Admin) -> None:
    channel = Channel(name="chat", type="slack")
    channel.settings = {"url": "https://example.com/hooks/abcd1234"}
    channel.save()
    page = admin.page
    page.set_viewport_size({"width": 1280, "height": 900})  # a menu keeps the place that it was opened at
    admin.open("notifications/channel/chat/change/")
    page.click("li:has-text('More') > a")
    page.click("nav a:has-text('Disable')")
    expect(page.get_by_text("Disable this channel?")).to_be_visible()
    admin.picture("all-dialog")
    page.click("#modal-content >> button:has-text('Disable')")
    expect(page.get_by_text("Disabled: chat.")).to_be_visible()
    channel.refresh_from_db()
    assert not channel.enabled


def test_forms_work_without_javascript(admin: Admin) -> None:
    browser = admin.page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, storage_state=admin.page.context.storage_state())
    page = context.new_page()
    page.goto(f"{admin.url}/admin/events/eventtype/add/")
    page.fill("#id_name", "order.paid")
    page.fill("#id_schema", "{")
    page.click("[name=_save]")
    expect(page.get_by_text("Line 1, column 2: this is not JSON")).to_be_visible()
    page.fill("#id_schema", SCHEMA)
    page.click("[name=_save]")
    expect(page.locator("#result_list")).to_contain_text("version 1")
    context.close()


def test_what_does_not_balance_is_red_on_the_first_page_and_leads_to_the_row(admin: Admin) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    lost = Event.objects.create(
        uid=first_uid_at(long_ago), source="/shop", event_id="lost", type="order.paid", time=long_ago
    )
    waits = timezone.now() - timedelta(minutes=2)
    Event.objects.create(source="/shop", event_id="late", type="order.paid", time=waits, due_at=waits)
    admin.open("")
    expect(admin.page.get_by_text("Not audited yet; the clock does it")).to_be_visible()
    ledger.keep()
    admin.open("")
    expect(admin.page.locator(".fact-error >> text=1 row does not balance")).to_be_visible()
    expect(admin.page.locator(".fact-error >> text=nobody took 1 due row for more than a minute.")).to_be_visible()
    admin.page.click("text=All sums")
    expect(admin.page.get_by_text("1 ≠ 0")).to_be_visible()
    for width in (1280, 390):
        admin.picture(f"all-ledger-{width}", width=width)
    admin.page.click(f"text={lost.pk}")
    expect(admin.page.locator("#content")).to_contain_text("order.paid")
    Event.objects.filter(pk=lost.pk).update(due_at=timezone.now())
    ledger.keep()
    admin.open("")
    expect(admin.page.get_by_text("Nothing is lost: 9 sums balance")).to_be_visible()
    admin.picture("all-ledger-balanced")
    expect(admin.page.get_by_text("does not balance")).to_have_count(0)
