"""What a broker delivered and no event could be made of: found, understood and settled in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import transaction
from playwright.sync_api import expect

from events.models import DeadLetter, Event, EventType, Source
from tests.brokers.counterparts import Sent, counterpart, structured
from tests.brokers.running import Running
from tests.browser.conftest import Admin
from tests.events.conftest import ORDER, PAID, event_type
from tests.live import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_message_is_tried_again_once_its_reason_is_mended_and_another_discarded(admin: Admin, brokers: Path) -> None:
    broker = counterpart("redis", brokers)
    event_type("order.paid", ORDER)
    source = Source.objects.create(name="shop", adapter="redis", settings=broker.settings("shop"))
    bodies = [
        structured("1", "order.paid", PAID),
        structured("2", "order.paid", {"order_id": "A-2"}),
        b"<order>A-3</order>",
    ]
    broker.publish("shop", [Sent(body, content_type="application/cloudevents+json") for body in bodies])
    with Running(source):
        wait_until(lambda: (Event.objects.count(), DeadLetter.objects.count()) == (1, 2))

    page = admin.page
    admin.open("")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        admin.picture(f"dead-letters-overview-{theme}")
    page.emulate_media(color_scheme="light")
    page.get_by_role("link", name="Open the dead letters").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    for width in (390, 1280):
        admin.picture(f"dead-letters-list-{width}", width=width)

    page.click("#result_list tbody tr:has-text('amount') a")
    for width in (390, 1280):
        admin.picture(f"dead-letter-{width}", width=width)
    again(admin)
    expect(page.get_by_text("Still no event")).to_contain_text('"amount" is a required property')
    admin.picture("dead-letter-still-none")
    with transaction.atomic():
        EventType.objects.get().add_schema({**ORDER, "required": ["order_id"]})
    again(admin)
    expect(page.get_by_text("1 stored as an event.")).to_be_visible()
    admin.picture("dead-letter-stored")
    page.get_by_role("link", name="order.paid").first.click()
    expect(page.get_by_text("A-2").first).to_be_visible()

    admin.open("events/deadletter/?state=waiting")
    page.click("#result_list tbody tr a")
    expect(page.get_by_text("<order>A-3</order>")).to_be_visible()
    page.get_by_role("link", name="Discard").click()
    admin.picture("dead-letter-discard", whole=False)
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("1 discarded.")).to_be_visible()
    admin.picture("dead-letter-discarded")


def again(admin: Admin) -> None:
    admin.page.get_by_role("link", name="Try again").click()
    admin.page.get_by_role("button", name="Try again").click()
