"""A newcomer with an empty installation reaches a delivered mail from the page of getting started alone."""

from __future__ import annotations

import re
import shlex
import subprocess
import time

import pytest
import requests
from playwright.sync_api import expect

from notifications.models import Delivery
from tests.browser.conftest import Admin

pytestmark = pytest.mark.browser

STEPS = ("Add an event type", "Add a channel", "Add a template", "Add a workflow", "Add a subscription")


@pytest.mark.flow
def test_from_nothing_to_a_mail_in_the_inbox_by_saving_what_is_filled_in(live_admin: Admin) -> None:
    admin, page = live_admin, live_admin.page
    began = time.monotonic()
    expect(page.get_by_role("heading", name="Getting started")).to_be_visible()
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.reload()
        admin.picture(f"overview-empty-{theme}-1280")
        admin.picture(f"overview-empty-{theme}-390", width=390)
    page.set_viewport_size({"width": 1280, "height": 900})

    page.click("#start >> text=Add a source")
    page.click("[name=_save]")
    page.wait_for_url("**/admin/start/")
    page.click("#start >> text=Issue its API key")
    page.click("text=Issue the key")
    key = page.inner_text("#api-key")
    page.click("text=I have copied it")
    page.wait_for_url("**/admin/start/")
    for number, title in enumerate(STEPS, start=3):
        page.click(f"#start >> text={title}")
        page.click("[name=_save]")
        page.wait_for_url("**/admin/start/")
        expect(page.locator(".start-tick[data-done=yes]")).to_have_count(number)

    said = page.inner_text("#start pre").replace("carillon_…", key)
    command = said.replace("CARILLON_API_KEY=", "export CARILLON_API_KEY=", 1)
    assert shlex.split(said.splitlines()[0]) == [f"CARILLON_API_KEY={key}"]
    answer = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True).stdout
    assert '"duplicate":false' in answer.replace(" ", "")
    expect(page.locator(".start-step[data-done=yes]")).to_have_count(4, timeout=20_000)  # by itself
    (mail,) = requests.get(f"{admin.url}/inbox/messages", timeout=10).json()
    assert (mail["to"], mail["subject"]) == ("you@example.com", "Backup of shop failed")
    assert Delivery.objects.get().state == "delivered"
    assert time.monotonic() - began < 120, "a person has ten minutes"

    for theme in ("dark", "light"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.reload()
        admin.picture(f"start-done-{theme}-1280")
        admin.picture(f"start-done-{theme}-390", width=390)
    page.click("text=The trace of the newest event")
    expect(page.locator("#content")).to_contain_text(re.compile("matched", re.IGNORECASE))
    admin.open("")
    expect(page.get_by_role("heading", name="Last events")).to_be_visible()
    expect(page.get_by_role("heading", name="Getting started")).to_have_count(0)


@pytest.mark.django_db(transaction=True)
def test_the_steps_can_be_hidden_and_found_again(admin: Admin) -> None:
    page = admin.page
    page.click("text=Hide this")
    expect(page.get_by_role("heading", name="Last events")).to_be_visible()
    expect(page.get_by_role("heading", name="Getting started")).to_have_count(0)
    page.click("a:has-text('Getting started')")
    expect(page.locator("#start")).to_contain_text("Who sends, and what")
