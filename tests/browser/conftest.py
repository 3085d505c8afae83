"""An admin in a real browser: logged in, with its console watched, and pictures kept where SCREENSHOTS says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer

from tests.live import Live


class Admin:
    """A person at the admin."""

    def __init__(self, page: Page, url: str, pictures: Path | None) -> None:
        self.page = page
        self.url = url
        self._pictures = pictures

    def open(self, path: str) -> None:
        self.page.goto(f"{self.url}/admin/{path}")

    def log_in(self, name: str, password: str) -> None:
        self.open("")
        self.page.fill("[name=username]", name)
        self.page.fill("[name=password]", password)
        self.page.click("text=Log in")
        expect(self.page.get_by_role("heading", name="Last events")).to_be_visible()

    def log_out(self) -> None:
        """Leave and forget the session: a page that refreshes itself would go to the login at a moment of its own."""
        self.page.goto("about:blank")
        self.page.context.clear_cookies()

    def write(self, field: str, text: str) -> None:
        """Type into the code editor of this field, in place of what it holds."""
        editor = self.page.locator(f"#id_{field} + .CodeMirror")
        editor.locator(".CodeMirror-line").first.click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(text)
        expect(self.page.locator(f"#id_{field}")).to_have_value(text)

    def save(self) -> None:
        self.page.click("[name=_save]")
        expect(self.page.locator("#result_list")).to_be_visible()

    def picture(self, name: str, *, width: int = 1280, whole: bool = True) -> None:
        """See that nothing is wider than the window, and keep a picture of the page where pictures are wanted."""
        self.page.set_viewport_size({"width": width, "height": 900})
        wider = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, f"{name} is {wider} px wider than a window of {width} px"
        if self._pictures:
            self.page.wait_for_load_state("networkidle")
            self.page.evaluate("document.fonts.ready")
            if whole:  # as if the window were as high as the page: what sticks to its end is not in the middle
                height = self.page.evaluate("document.documentElement.scrollHeight")
                self.page.set_viewport_size({"width": width, "height": max(900, height)})
            self.page.screenshot(path=self._pictures / f"{name}.png")
            self.page.set_viewport_size({"width": width, "height": 900})


PASSWORD = "a password for tests"


@pytest.fixture
def quiet_page(page: Page) -> Iterator[Page]:
    """A page whose console has to stay free of errors, or the test fails."""
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            said.append(f"{message.text} ({message.location.get('url')})")

    page.on("console", listen)
    page.on("pageerror", lambda error: said.append(f"{error.stack or error} on {page.url}"))
    yield page
    assert not said, said


def _superuser_at(page: Page, url: str) -> Admin:
    User.objects.create_superuser("admin", password=PASSWORD)
    there = Admin(page, url, Path(wanted) if (wanted := os.environ.get("SCREENSHOTS")) else None)
    there.log_in("admin", PASSWORD)
    return there


@pytest.fixture
def admin(quiet_page: Page, live_server: LiveServer) -> Admin:
    """The admin, logged in as a superuser."""
    return _superuser_at(quiet_page, live_server.url)


@pytest.fixture
def live_admin(quiet_page: Page, live: Live) -> Admin:
    """The admin of a Carillon in real processes, with its inbox, logged in as a superuser."""
    live.environment |= {
        "EMAIL_URL": f"smtp://127.0.0.1:{live.smtp_port}",
        "INBOX_SLACK_URL": f"{live.url}/inbox/slack",
    }
    live.start("web", "worker", "performer", "sender", "clock", "inbox")
    live.wait_ready()
    return _superuser_at(quiet_page, live.url)
