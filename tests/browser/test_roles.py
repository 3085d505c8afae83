"""Each role walks the pages by which one finds out what happened, with rows of real runs behind them."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from events.models import Event, EventType, Subscription
from notifications.models import Channel, Delivery, Template
from project.roles import Role
from tests.browser.conftest import PASSWORD, Admin
from tests.browser.test_accessibility import violations
from tests.browser.test_event_page import happened, work
from tests.sinks import HttpSink
from workflows.models import Run

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SECRET = "whsec_" + "c2VjcmV0" * 6


class Stop(NamedTuple):
    """A page: what it shows to everybody, and the ends of the links that only who may act, or edit, finds there."""

    path: str
    shows: str
    acts: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()


def stops() -> list[Stop]:
    event, asked = Event.objects.get(), Run.objects.get(version__workflow__name="large-order")
    told, channel = Delivery.objects.get(), Channel.objects.get()
    return [
        Stop("", "Last events"),
        Stop("start/", "Who sends, and what"),
        Stop("events/event/?q=A-1001", "2 of 3"),
        Stop(f"events/event/{event.pk}/change/", "event.data.amount > 10000.0 is false", acts=("/replay/",)),
        Stop(f"workflows/run/{asked.pk}/change/", "ask", acts=("/cancel/",)),
        Stop(f"notifications/delivery/{told.pk}/change/", "Closed for lunch"),
        Stop(
            f"notifications/channel/{channel.pk}/change/",
            "shop",
            acts=("/test/", "/pause/"),
            edits=("/rotate/", "_save"),
        ),
        Stop(f"notifications/template/{Template.objects.get().pk}/change/", "It was paid.", edits=("_save",)),
        Stop(
            f"events/subscription/{Subscription.objects.get(name='large-orders').pk}/change/",
            "event.data.amount > 100.0",
            edits=("_save",),
        ),
        Stop("workflows/workflow/order-paid/change/", "record.put", edits=("_save",)),
        Stop(
            f"events/eventtype/{EventType.objects.get().pk}/change/", "paid-orders", acts=("/send/",), edits=("_save",)
        ),
    ]


def offered(page: Page, end: str) -> bool:
    return page.locator(f"a[href$='{end}'], [name='{end}']").count() > 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("role", Role)
def test_each_role_is_told_all_and_offered_what_it_may(
    quiet_page: Page, live_server: LiveServer, http_sink: HttpSink, role: Role
) -> None:
    happened(http_sink)
    Channel.objects.update(settings={"url": http_sink.url("/shop"), "secret": SECRET})
    work()
    user = User.objects.create_user("grace", password=PASSWORD, is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    visitor, page = Admin(quiet_page, live_server.url, None), quiet_page
    visitor.log_in("grace", PASSWORD)
    found: list[str] = []
    for stop in stops():
        visitor.open(stop.path)
        expect(page.locator("body")).to_contain_text(stop.shows)
        assert SECRET not in page.content(), stop.path
        for end in stop.acts:
            assert offered(page, end) == (role is not Role.VIEWER), (stop.path, end)
        for end in stop.edits:
            assert offered(page, end) == (role is Role.EDITOR), (stop.path, end)
        if role is Role.VIEWER and stop.edits:  # whose pages hold texts where others have fields
            page.wait_for_function("!document.documentElement.hasAttribute('x-cloak')")
            found += violations(visitor, stop.path, {"resultTypes": ["violations"]})
    assert not found, "\n".join(found)
