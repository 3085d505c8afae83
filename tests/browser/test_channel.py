"""A channel's page, with real processes behind it: test, pause, resume, a new secret, what failed sent again."""

from __future__ import annotations

import pytest
import standardwebhooks
from playwright.sync_api import expect

from notifications.models import Channel, Delivery
from tests.browser.conftest import Admin
from tests.live import wait_until
from tests.notifications.channels.test_duties import SECRET
from tests.notifications.test_delivery import states, tell
from tests.sinks import Answer, HttpSink

pytestmark = [pytest.mark.browser, pytest.mark.flow]


def more(admin: Admin, action: str) -> None:
    admin.page.click("li:has-text('More') > a")
    admin.page.click(f"nav a:has-text('{action}')")


def pictures(admin: Admin, name: str) -> None:
    for theme in ("dark", "light"):
        admin.page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        admin.page.reload()
        admin.picture(f"{name}-{theme}-1280")
        admin.picture(f"{name}-{theme}-390", width=390)
    admin.page.set_viewport_size({"width": 1280, "height": 900})


def test_a_channel_is_tested_paused_resumed_and_what_failed_is_recovered(
    live_admin: Admin, http_sink: HttpSink
) -> None:
    admin, page = live_admin, live_admin.page
    settings = {"url": http_sink.url("/ops"), "secret": SECRET}
    channel = Channel.objects.create(name="ops", type="webhook", settings=settings, retry_schedule=["0s"])
    http_sink.answers["/ops"] = [Answer(503, b"back soon"), Answer(200, b"thank you")]
    home = f"notifications/channel/{channel.pk}/change/"

    admin.open(home)
    page.click("text=Send a test")
    page.click("button:has-text('Send a test')")
    expect(page.locator("#channel-test")).to_contain_text("It did not arrive")
    expect(page.locator("#channel-test")).to_contain_text("503 back soon")
    page.click("button:has-text('Send another')")
    expect(page.locator("#channel-test")).to_contain_text("It works")
    expect(page.locator("#channel-test")).to_contain_text("thank you")
    pictures(admin, "channel-test")

    admin.open(home)
    page.click("text=Pause")
    page.fill("#modal-content [name=reason]", "they move house")
    admin.picture("channel-pause-1280", whole=False)
    page.click("#modal-content button:has-text('Pause')")
    expect(page.get_by_text("Paused by admin: they move house")).to_be_visible()
    waiting = tell("channel:ops", times=3)
    page.wait_for_timeout(1500)  # the clock has looked twice
    assert set(states(waiting)) == {"pending"}
    page.reload()
    expect(page.get_by_text("3 deliveries wait until it is resumed.")).to_be_visible()
    admin.picture("channel-paused-1280")
    page.click("text=Resume")
    page.click("#modal-content button:has-text('Resume')")
    expect(page.get_by_text("Resumed: ops.")).to_be_visible()
    wait_until(lambda: set(states(waiting)) == {"delivered"})

    more(admin, "Make a new secret")
    page.click("button:has-text('Make a new secret')")
    new = page.inner_text("#secret")
    admin.picture("channel-secret-390", width=390)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.click("text=I have copied it")
    (made,) = tell("channel:ops")
    wait_until(lambda: states([made]) == ["delivered"])
    last = http_sink.requests[-1]
    for secret in (SECRET, new):
        standardwebhooks.Webhook(secret).verify(last.body, dict(last.headers))

    http_sink.answers["/ops"] = [Answer(400, b"no such field")]
    lost = tell("channel:ops", times=4)
    wait_until(lambda: set(states(lost)) == {"failed"})
    http_sink.answers["/ops"] = [Answer(200, b"thank you")]
    admin.open(home)
    expect(page.locator("#channel-health")).to_contain_text("no such field")
    pictures(admin, "channel-errors")
    more(admin, "Recover")
    expect(page.locator("#to-recover")).to_have_text("5 failed deliveries")  # with the first test
    page.select_option("[name=hours]", "1")
    expect(page.locator("#to-recover")).to_have_text("5 failed deliveries")
    page.fill("[name=since]", "2100-01-01T00:00")
    page.locator("[name=since]").dispatch_event("change")
    expect(page.locator("#to-recover")).to_have_text("Nothing failed in that time")
    page.fill("[name=since]", "")
    page.locator("[name=since]").dispatch_event("change")
    expect(page.locator("#to-recover")).to_have_text("5 failed deliveries")
    admin.picture("channel-recover-1280")
    admin.picture("channel-recover-390", width=390)
    page.click("button:has-text('Send them again')")
    expect(page.locator("#recovery")).to_contain_text("5 sent again, with fresh schedules.")
    admin.picture("channel-recovered-1280")
    wait_until(lambda: not Delivery.objects.exclude(state="delivered").exists(), what="everything arrived")
