"""Flower in a real browser: with the admin's login, with buttons for those who may press them."""

from __future__ import annotations

import re

import pytest
import requests
from django.contrib.auth.models import Group, User
from django.db import connections
from playwright.sync_api import Page, expect

from project.roles import Role
from tests.live import Live, wait_until

pytestmark = pytest.mark.browser

PASSWORD = "a password for tests"
PROGRAM = ("tests", "tests")


def test_flower_opens_with_the_admins_login(live: Live, page: Page) -> None:
    connections.close_all()  # beside Playwright's loop Django has others, to the database of the test before
    live.environment["FLOWER_BASIC_AUTH"] = "tests:tests"
    live.start("web", "worker", "flower")

    def there() -> bool:
        try:
            found = requests.get(f"{live.flower_url}/api/workers?refresh=1", auth=PROGRAM, timeout=20)
            return bool(found.ok and found.json() and requests.get(f"{live.url}/healthz", timeout=5).ok)
        except requests.ConnectionError:
            return False

    wait_until(there, seconds=60, what="Flower with a worker")
    for role, acts in ((Role.VIEWER, False), (Role.OPERATOR, True)):
        user = User.objects.create_user(role, password=PASSWORD, is_staff=True)
        user.groups.set(Group.objects.filter(name=role))
        page.context.clear_cookies()
        page.goto(f"{live.flower_url}/workers")
        expect(page).to_have_url(re.compile(f"{live.url}/admin/login/"))
        page.fill("[name=username]", role)
        page.fill("[name=password]", PASSWORD)
        page.click("text=Log in")
        expect(page).to_have_url(f"{live.flower_url}/workers")
        page.click("table a:has-text('worker@')")
        expect(page.get_by_role("tab", name="Pool")).to_be_visible()
        assert (page.get_by_label("Worker actions").count() > 0) == acts
        page.goto(f"{live.url}/admin/")
        page.click("text=Flower >> nth=0")
        expect(page.get_by_label(f"Log out {role}")).to_be_visible()
