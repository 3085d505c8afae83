"""People at the login and behind it: the second factor, wrong passwords, roles, the audit log.

`SCREENSHOTS=/tmp/shots pytest tests/browser/test_access.py` keeps pictures, light and dark, wide and narrow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils import timezone
from playwright.sync_api import ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer

from events.models import EventType, Schedule, Source
from notifications.models import Channel, Recipient, Template
from project import two_factor
from project.roles import Role
from tests.browser.conftest import Admin
from tests.project.test_two_factor import Phone
from workflows.publishing import publish

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a password for tests"

WORKFLOW = """\
name: order-paid
description: Keep the order
steps:
  - id: keep
    action: record.put
    with: {collection: orders, key: "${{ event.data.order_id }}", value: "${{ event.data }}"}
"""


@pytest.fixture
def visitor(page: Page, live_server: LiveServer) -> Iterator[Admin]:
    """Somebody at the login. The test fails when the browser's console reports an error."""
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "429" not in message.text:  # Chromium reports that one itself
            said.append(f"{message.text} ({message.location.get('url')})")

    page.on("console", listen)
    page.on("pageerror", lambda error: said.append(f"{error.stack or error} on {page.url}"))
    page.set_viewport_size({"width": 1280, "height": 900})
    pictures = Path(wanted) if (wanted := os.environ.get("SCREENSHOTS")) else None
    yield Admin(page, live_server.url, pictures)
    assert not said, said


def somebody(name: str, role: Role | None = None) -> User:
    user = User.objects.create_user(name, password=PASSWORD, is_staff=True, is_superuser=role is None)
    user.groups.set(Group.objects.filter(name=role))
    return user


def log_in(visitor: Admin, name: str, password: str = PASSWORD, path: str = "") -> None:
    visitor.open(path)
    visitor.page.fill("[name=username]", name)
    visitor.page.fill("[name=password]", password)
    visitor.page.click("text=Log in")


def pictures(visitor: Admin, name: str) -> None:
    """The page light and dark, wide and on a phone; none of it is wider than the window."""
    page = visitor.page
    for theme in ("dark", "light"):
        # Not by the wish of the system: unfold looks at that when a page is loaded, and some are shown only once.
        page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", theme == "dark")
        for width in (1280, 390):
            visitor.picture(f"{name}-{theme}-{width}", width=width)
    page.set_viewport_size({"width": 1280, "height": 900})


def test_a_person_sets_up_the_second_factor_and_logs_in_with_it(visitor: Admin) -> None:
    page = visitor.page
    somebody("ada")
    log_in(visitor, "ada")
    page.click("[x-on\\:click*=openUserLinks], header button:has-text('ada'), button:has-text('ada')")
    page.click("text=Two-factor login")
    expect(page.locator(".access-qr svg")).to_be_visible()
    page.click("text=It cannot read it?")
    phone = Phone(page.inner_text(".fact-key"))
    pictures(visitor, "two-factor-set-up")
    page.fill("[name=token]", "000000")
    page.click("text=Turn it on")
    expect(page.get_by_text("This code is wrong")).to_be_visible()
    page.wait_for_timeout(1100)  # after a wrong code the next one is looked at a second later
    page.fill("[name=token]", phone.code())
    page.click("text=Turn it on")
    codes = page.inner_text("#recovery-codes").split()
    assert len(codes) == two_factor.CODES
    pictures(visitor, "two-factor-codes")
    page.click("text=I have kept them")
    expect(page).to_have_url(f"{visitor.url}/admin/")

    visitor.log_out()
    log_in(visitor, "ada", path="events/source/")
    expect(page.get_by_text("Your second factor")).to_be_visible()
    pictures(visitor, "two-factor-verify")
    page.fill("[name=token]", phone.code())
    page.click("text=Go on")
    expect(page).to_have_url(f"{visitor.url}/admin/events/source/")
    visitor.open("two-factor/")
    expect(page.get_by_text("10 recovery codes left")).to_be_visible()
    pictures(visitor, "two-factor-on")

    visitor.log_out()
    log_in(visitor, "ada")
    page.fill("[name=token]", codes[0])
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visitor.url}/admin/")


def test_where_it_is_required_nobody_gets_past_it(visitor: Admin, settings: object) -> None:
    settings.REQUIRE_TWO_FACTOR = True  # type: ignore[attr-defined]  # pytest-django's
    page = visitor.page
    somebody("ada", Role.VIEWER)
    log_in(visitor, "ada", path="events/event/")
    expect(page).to_have_url(f"{visitor.url}/admin/two-factor/")
    expect(page.get_by_text("Everybody who logs in here needs a second factor")).to_be_visible()
    visitor.open("events/event/")
    expect(page).to_have_url(f"{visitor.url}/admin/two-factor/")


def test_after_wrong_passwords_a_page_says_what_helps(visitor: Admin) -> None:
    page = visitor.page
    somebody("ada")
    for _ in range(5):
        log_in(visitor, "ada", "wrong")
        page.wait_for_load_state()
    expect(page.get_by_text("Too many wrong passwords")).to_be_visible()
    expect(page.get_by_text("axes_reset_username")).to_be_visible()
    pictures(visitor, "locked")
    page.click("text=Back to the login")
    expect(page.locator("[name=password]")).to_be_visible()


def configure() -> Channel:
    Source.objects.create(name="shop")
    kind = EventType.objects.create(name="order.paid", example={"amount": 1})
    with transaction.atomic():
        kind.add_schema({"type": "object"})
    publish(WORKFLOW)
    Template.objects.create(name="paid", subject="Paid", text="one\ntwo\nthree")
    Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"})
    Schedule.objects.create(name="hourly", cron="0 * * * *", type="order.paid", due_at=timezone.now())
    return Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hooks/abcd1234"})


@pytest.mark.parametrize(
    ("role", "acts", "edits"),
    [(Role.VIEWER, False, False), (Role.OPERATOR, True, False), (Role.EDITOR, True, True)],
    ids=lambda value: str(value),
)
def test_each_role_finds_what_it_may_and_nothing_else(visitor: Admin, role: Role, acts: bool, edits: bool) -> None:
    page = visitor.page
    channel = configure()
    somebody("grace", role)
    log_in(visitor, "grace")
    expect(page.locator("nav, aside").get_by_text("Channels").first).to_be_visible()
    assert page.get_by_text("Users", exact=True).count() == 0
    visitor.open("notifications/channel/")
    assert (page.locator("a[href$='/notifications/channel/add/']").count() > 0) == edits
    visitor.open(f"notifications/channel/{channel.pk}/change/")
    assert (page.locator("[name=_save]").count() > 0) == edits
    assert (page.locator("a[href$='/pause/']").count() > 0) == acts
    assert (page.locator("a[href$='/disable/']").count() > 0) == edits
    assert "abcd" not in page.content()
    pictures(visitor, f"channel-{role}")
    if acts:
        page.click("a[href$='/pause/']")
        page.get_by_role("button", name="Pause").last.click()
        expect(page.get_by_text("Paused: chat")).to_be_visible()
        assert Channel.objects.get().paused_at
    visitor.open("workflows/workflow/order-paid/change/")
    assert (page.locator("[name=_save]").count() > 0) == edits


def test_the_audit_log_tells_who_changed_what(visitor: Admin) -> None:
    page = visitor.page
    channel = configure()
    somebody("grace", Role.EDITOR)
    log_in(visitor, "grace")
    template = Template.objects.get()
    visitor.open(f"notifications/template/{template.pk}/change/")
    visitor.write("text", "one\n2\nthree")
    visitor.save()
    visitor.open(f"notifications/channel/{channel.pk}/change/")
    page.fill("#id_settings__url", "https://example.com/hooks/wxyz9876")
    page.fill("#id_rate_limit", "5/s")
    visitor.save()
    publish(WORKFLOW.replace("orders", "paid"))

    visitor.open("project/auditentry/")
    expect(page.locator("#result_list")).to_contain_text("channel chat")
    expect(page.locator("#result_list")).to_contain_text("grace")
    pictures(visitor, "audit-log")
    page.click("#result_list >> tr:has-text('grace') >> th a >> nth=0")
    expect(page.locator("#content")).to_contain_text("secrets are not kept here")
    expect(page.locator("#content")).to_contain_text("5/s")
    assert "wxyz" not in page.content()
    pictures(visitor, "audit-entry")
    page.click("#content >> text=channel chat")
    expect(page).to_have_url(f"{visitor.url}/admin/notifications/channel/{channel.pk}/change/")

    visitor.open(f"notifications/template/{template.pk}/history/")
    expect(page.locator(".change-before")).to_have_text("-two")
    pictures(visitor, "history-template")
    visitor.open("workflows/workflow/order-paid/history/")
    pictures(visitor, "history-workflow")
    visitor.open("project/auditentry/?user=nobody")
    expect(page.locator("#content")).to_contain_text("Nothing matches")


def test_users_and_roles_are_managed_by_a_superuser(visitor: Admin) -> None:
    page = visitor.page
    somebody("root")
    ada = somebody("ada", Role.VIEWER)
    device = two_factor.begin(ada)
    device.confirmed = True
    device.save()
    log_in(visitor, "root")
    visitor.open("auth/user/")
    expect(page.locator("#result_list tr:has-text('ada')")).to_contain_text("viewer")
    pictures(visitor, "users")
    visitor.open(f"auth/user/{ada.pk}/change/")
    page.click("a[href$='/forget_second_factor/']")
    page.get_by_role("button", name="Turn it off").click()
    expect(page.get_by_text("logs in with the password alone")).to_be_visible()
    pictures(visitor, "user")
    visitor.open(f"auth/group/{Group.objects.get(name='viewer').pk}/change/")
    expect(page.locator("#content")).to_contain_text("Can view channel")
    assert page.locator("[name=_save]").count() == 0
    pictures(visitor, "group")
