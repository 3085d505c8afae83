"""The overview keeps itself up to date while somebody looks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import Page, Request, expect
from pytest_django.live_server_helper import LiveServer

from notifications.models import Channel
from project.models import Minute
from tests.browser.conftest import Admin

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LAST_BAR = "Chart.getChart(document.querySelector('#chart-accepted canvas')).data.datasets[0].data.at(-2)"
LOOK_AWAY = """
    Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => 'hidden'});
    document.dispatchEvent(new Event('visibilitychange'));
"""
LOOK_AGAIN = """
    delete document.visibilityState;
    document.dispatchEvent(new Event('visibilitychange'));
"""


def asked_for(admin: Admin) -> list[str]:
    """The addresses of the part that were fetched, as they are fetched."""
    found: list[str] = []

    def listen(request: Request) -> None:
        if "/admin/overview/" in request.url:
            found.append(request.url)

    admin.page.on("request", listen)
    return found


def test_it_fetches_itself_anew_and_keeps_what_somebody_opened(admin: Admin) -> None:
    page = admin.page
    page.clock.install()
    admin.open("")
    assert page.evaluate(LAST_BAR) == 0
    page.click("#ledger-sums > summary")
    last = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=1)
    Minute.objects.create(minute=last, name="accepted", value=1234)
    Channel.objects.create(
        name="ops", type="slack", hold_until=timezone.now() + timedelta(hours=1), hold_reason="503 again and again"
    )
    canvas = page.locator("#chart-accepted canvas").element_handle()
    with page.expect_response("**/admin/overview/**"):
        page.clock.fast_forward(11_000)
    expect(page.locator("#board")).to_contain_text("503 again and again")
    expect(page.locator("#board")).to_contain_text("1,234 in the last hour")
    page.wait_for_function(f"{LAST_BAR} === 1234")
    assert page.locator("#chart-accepted canvas").evaluate("(now, before) => now === before", canvas)
    expect(page.locator("#ledger-sums")).to_have_attribute("open", "")


def test_it_rests_while_nobody_looks_and_hurries_when_somebody_looks_again(admin: Admin) -> None:
    page = admin.page
    page.clock.install()
    admin.open("")
    fetched = asked_for(admin)
    page.evaluate(LOOK_AWAY)
    page.clock.fast_forward(60_000)
    page.wait_for_timeout(100)
    assert fetched == []
    with page.expect_response("**/admin/overview/**"):
        page.evaluate(LOOK_AGAIN)
    assert len(fetched) == 1


def test_the_period_is_kept(admin: Admin) -> None:
    page = admin.page
    page.clock.install()
    admin.open("")
    page.click("text=Last day")
    expect(page.locator("#board")).to_contain_text("in the last day")
    with page.expect_response("**/admin/overview/?period=day"):
        page.clock.fast_forward(11_000)
    expect(page.locator("#board")).to_contain_text("in the last day")


def test_whoever_was_logged_out_meanwhile_is_asked_to_log_in(admin: Admin) -> None:
    page = admin.page
    page.clock.install()
    admin.open("")
    Session.objects.all().delete()
    page.clock.fast_forward(11_000)
    page.wait_for_url("**/admin/login/**")
    expect(page.locator("[name=password]")).to_be_visible()


def test_without_an_answer_it_says_so_until_it_is_answered(page: Page, live_server: LiveServer) -> None:
    User.objects.create_superuser("admin", password="a password for tests")
    admin = Admin(page, live_server.url, None)  # an error in the console is what this is about
    admin.log_in("admin", "a password for tests")
    page.clock.install()
    admin.open("")
    expect(page.locator(".fact-stale")).to_be_hidden()
    page.route("**/admin/overview/**", lambda route: route.fulfill(status=503, body=""))
    page.clock.fast_forward(11_000)
    expect(page.locator(".fact-stale")).to_be_visible()
    page.unroute("**/admin/overview/**")
    page.clock.fast_forward(11_000)
    expect(page.locator(".fact-stale")).to_be_hidden()
