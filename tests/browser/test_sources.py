"""A webhook source is made in a real browser."""

from __future__ import annotations

import pytest
from django.test.utils import override_settings
from playwright.sync_api import expect

from events.models import EventType, Source
from tests.browser.conftest import Admin

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_webhook_source_is_chosen_filled_in_and_shows_its_address(admin: Admin) -> None:
    page = admin.page
    admin.open("events/source/add/")
    for width in (390, 1280):
        admin.picture(f"source-kinds-{width}", width=width)
    page.click("h2:text-is('github')")
    page.fill("#id_name", "forge")
    page.click("[name=_save]")
    expect(page.get_by_text("Settings, Webhooks of the repository or organization").first).to_be_visible()
    admin.picture("source-github-without-its-secret")
    page.fill("#id_secret", "a long random text")
    admin.save()
    assert Source.objects.get().secret == "a long random text"
    assert EventType.objects.filter(name="github.push").exists()

    with override_settings(CARILLON_URL="https://carillon.example.com"):
        page.click("#result_list >> text=forge")
        expect(page.get_by_text("https://carillon.example.com/hooks/forge")).to_be_visible()
        for width in (390, 1280):
            admin.picture(f"source-github-{width}", width=width)
        page.emulate_media(color_scheme="dark")
        page.reload()
        admin.picture("source-github-dark")


def test_the_settings_of_an_adapter_are_a_form(admin: Admin) -> None:
    page = admin.page
    admin.open("events/source/add/?adapter=hmac")
    page.fill("#id_name", "webshop")
    page.fill("#id_secret", "key")
    page.fill("#id_settings__type", "order.${{ bodi.status }}")
    page.fill("#id_settings__header", "X-Webshop-Signature")
    page.click("[name=_save]")
    expect(page.get_by_text('did you mean "body"?')).to_be_visible()
    for width in (390, 1280):
        admin.picture(f"source-hmac-{width}", width=width)
    page.fill("#id_settings__type", "order.${{ body.status }}")
    admin.save()
    assert Source.objects.get().settings["type"] == "order.${{ body.status }}"
