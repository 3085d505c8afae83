"""An admin in a real browser: logged in, with its console watched, and pictures kept where SCREENSHOTS says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer


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
        expect(self.page.get_by_text("Last events")).to_be_visible()

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
            self.page.screenshot(path=self._pictures / f"{name}.png", full_page=whole)


@pytest.fixture
def admin(page: Page, live_server: LiveServer) -> Iterator[Admin]:
    """The admin, logged in as a superuser. The test fails when the browser's console reports an error."""
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            said.append(f"{message.text} ({message.location.get('url')})")

    page.on("console", listen)
    page.on("pageerror", lambda error: said.append(f"{error.stack or error} on {page.url}"))
    User.objects.create_superuser("admin", password="a password for tests")
    pictures = Path(wanted) if (wanted := os.environ.get("SCREENSHOTS")) else None
    there = Admin(page, live_server.url, pictures)
    there.log_in("admin", "a password for tests")
    yield there
    assert not said, said
