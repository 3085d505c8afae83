# ruff: noqa: F811  a fixture of another module is a parameter here
"""The second factor: set up, asked for, used up, lost; and who cannot go on without it."""

from __future__ import annotations

import re
import time
from base64 import b32decode
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from project import changes, two_factor
from project.models import AuditEntry
from tests.project.test_admin import CONFIRMED, quick_passwords  # noqa: F401  a fixture

pytestmark = pytest.mark.django_db

PAGE = "/admin/two-factor/"
VERIFY = "/admin/two-factor/verify/"
PASSWORD = "a password of ada"


@pytest.fixture
def ada(quick_passwords: None) -> User:
    return User.objects.create_superuser("ada", password=PASSWORD)


class Phone:
    """An app that was shown the secret, a step of time further on whenever it is asked."""

    def __init__(self, secret: str) -> None:
        plain = secret.replace(" ", "")
        self.key = b32decode(plain + "=" * (-len(plain) % 8))
        self.steps = -1

    def code(self) -> str:
        self.steps += 1  # a code that was used is not taken again
        totp = TOTP(self.key)
        totp.time = time.time() + 30 * (self.steps - 1)
        return f"{totp.token():06d}"


def log_in(client: Client, user: User) -> Any:
    return client.post(reverse("admin:login"), {"username": user.username, "password": PASSWORD, "next": "/admin/"})


def set_up(client: Client) -> tuple[Phone, list[str]]:
    """Whoever is logged in turns it on; the phone, and the recovery codes."""
    told = client.get(PAGE).content.decode()
    found = re.search(r'<pre class="fact-key">([A-Z2-7 ]+)</pre>', told)
    assert found
    phone = Phone(found[1])
    return phone, turn_on(client, phone.code())


def turn_on(client: Client, code: str) -> list[str]:
    told = client.post(PAGE, {"token": code}).content.decode()
    found = re.search(r'<pre class="fact-key" id="recovery-codes">(.*?)</pre>', told, re.DOTALL)
    return unescape(found[1]).split() if found else []


def home(client: Client) -> int:
    return client.get("/admin/").status_code


@pytest.fixture
def enrolled(client: Client, ada: User) -> tuple[Phone, list[str]]:
    log_in(client, ada)
    phone, codes = set_up(client)
    assert len(codes) == two_factor.CODES
    client.logout()
    return phone, codes


def test_who_has_none_logs_in_as_before(client: Client, ada: User) -> None:
    assert log_in(client, ada).headers["Location"] == "/admin/"
    assert home(client) == 200


def test_setting_it_up_shows_a_code_that_phones_can_read(client: Client, ada: User) -> None:
    log_in(client, ada)
    told = client.get(PAGE).content.decode()
    assert "<svg" in told
    assert "http" not in re.findall(r"<svg.*?</svg>", told, re.DOTALL)[-1].replace("http://www.w3.org/2000/svg", "")
    assert told.count('class="fact-key"') == 1
    assert client.get(PAGE).content.decode().count(re.findall(r'"fact-key">([A-Z2-7 ]+)<', told)[0]) == 1  # the same
    device = TOTPDevice.objects.get()
    assert (device.confirmed, device.config_url.startswith("otpauth://totp/Carillon%3Aada?secret=")) == (False, True)


def test_a_wrong_code_does_not_turn_it_on(client: Client, ada: User) -> None:
    log_in(client, ada)
    client.get(PAGE)
    assert turn_on(client, "000000") == []
    assert two_factor.device_of(ada) is None
    told = client.post(PAGE, {"token": "123 456"})
    assert told.status_code == 200
    assert b"the next one is looked at in" in told.content or b"This code is wrong" in told.content


def test_it_is_asked_after_the_password_and_leads_where_somebody_wanted_to_go(
    client: Client, ada: User, enrolled: tuple[Phone, list[str]]
) -> None:
    phone, _ = enrolled
    wanted = "/admin/events/event/?q=x&since=1h"
    client.post(reverse("admin:login"), {"username": "ada", "password": PASSWORD, "next": wanted})
    sent = client.get(wanted)
    assert sent.status_code == 302
    asked = sent.headers["Location"]
    assert asked.startswith(f"{VERIFY}?")
    for page in ("/admin/", PAGE, "/admin/flower/", "/admin/auth/user/", "/admin/jsi18n/", "/admin/search/?s=x"):
        assert client.get(page).headers["Location"].startswith(VERIFY), page
        assert client.post(page, {"token": "1"}).headers["Location"].startswith(VERIFY), page
    assert b"Carillon:ada" in client.get(asked).content
    assert client.post(asked, {"token": phone.code()}).headers["Location"] == wanted
    assert client.get(wanted).status_code == 200
    assert client.get(VERIFY).headers["Location"] == "/admin/"


def test_it_leads_nowhere_else(client: Client, ada: User, enrolled: tuple[Phone, list[str]]) -> None:
    phone, _ = enrolled
    log_in(client, ada)
    sent = client.post(f"{VERIFY}?next=https://evil.example.com/", {"token": phone.code()})
    assert sent.headers["Location"] == "/admin/"


def test_a_part_of_a_page_that_asks_takes_the_whole_page_along(
    client: Client, ada: User, enrolled: tuple[Phone, list[str]]
) -> None:
    log_in(client, ada)
    answer = client.get("/admin/", headers={"HX-Request": "true"})
    assert answer.headers["HX-Redirect"].startswith(VERIFY)


def test_who_is_not_logged_in_is_asked_for_the_password_first(client: Client) -> None:
    assert client.get(VERIFY).headers["Location"] == "/admin/"
    assert "login" in client.get("/admin/").headers["Location"]


def test_a_code_is_taken_once(client: Client, ada: User, enrolled: tuple[Phone, list[str]]) -> None:
    phone, codes = enrolled
    code = phone.code()
    for number, token in enumerate((code, codes[0])):
        log_in(client, ada)
        assert client.post(VERIFY, {"token": token}).status_code == 302, number
        client.logout()
        log_in(client, ada)
        assert client.post(VERIFY, {"token": token}).status_code == 200, number
        assert home(client) == 302
    assert two_factor.codes_left(ada) == two_factor.CODES - 1


def test_codes_may_be_typed_as_people_type(client: Client, ada: User, enrolled: tuple[Phone, list[str]]) -> None:
    phone, codes = enrolled
    log_in(client, ada)
    assert client.post(VERIFY, {"token": f" {codes[1].upper()} "}).status_code == 302
    client.logout()
    log_in(client, ada)
    code = phone.code()
    assert client.post(VERIFY, {"token": f"{code[:3]} {code[3:]}"}).status_code == 302


def test_guessing_becomes_slower_and_recovery_codes_still_work(
    client: Client, ada: User, enrolled: tuple[Phone, list[str]]
) -> None:
    phone, codes = enrolled
    log_in(client, ada)
    for _ in range(3):
        client.post(VERIFY, {"token": "000000"})
    told = client.post(VERIFY, {"token": phone.code()})
    assert b"looked at in" in told.content
    assert home(client) == 302
    assert client.post(VERIFY, {"token": codes[2]}).status_code == 302
    assert home(client) == 200


def test_new_recovery_codes_need_a_code_and_end_the_old_ones(
    client: Client, ada: User, enrolled: tuple[Phone, list[str]]
) -> None:
    phone, codes = enrolled
    log_in(client, ada)
    client.post(VERIFY, {"token": phone.code()})
    assert b"recovery-codes" not in client.post(PAGE, {"codes": "yes", "token": "000000"}).content
    TOTPDevice.objects.update(throttling_failure_count=0)
    fresh = re.search(
        rb'id="recovery-codes">(.*?)</pre>', client.post(PAGE, {"codes": "yes", "token": phone.code()}).content, re.S
    )
    assert fresh
    assert not set(fresh[1].decode().split()) & set(codes)
    assert two_factor.check(ada, codes[0]) is None


def test_turning_it_off_needs_a_code(client: Client, ada: User, enrolled: tuple[Phone, list[str]]) -> None:
    phone, _ = enrolled
    log_in(client, ada)
    client.post(VERIFY, {"token": phone.code()})
    client.post(PAGE, {"off": "yes", "token": "aaaaaaaa"})
    assert two_factor.device_of(ada)
    client.post(PAGE, {"off": "yes", "token": phone.code()})
    assert two_factor.device_of(ada) is None
    assert two_factor.codes_left(ada) == 0
    assert home(client) == 200
    client.logout()
    log_in(client, ada)
    assert home(client) == 200


def test_without_phone_and_codes_an_administrator_turns_it_off(
    client: Client, admin_client: Client, ada: User, enrolled: tuple[Phone, list[str]]
) -> None:
    page = reverse("admin:auth_user_change", args=[ada.pk])
    turn_off = reverse("admin:auth_user_forget_second_factor", args=[ada.pk])
    assert turn_off in admin_client.get(page).content.decode()
    assert admin_client.get(turn_off).status_code == 200  # it asks
    assert two_factor.device_of(ada)
    admin_client.post(turn_off, CONFIRMED)
    assert two_factor.device_of(ada) is None
    assert turn_off not in admin_client.get(page).content.decode()
    told = admin_client.get(reverse("admin:auth_user_history", args=[ada.pk])).content.decode()
    assert "Turned off the second factor." in told


def test_the_last_administrator_gets_in_by_a_command(
    client: Client, ada: User, enrolled: tuple[Phone, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("addstatictoken", "ada")
    log_in(client, ada)
    assert client.post(VERIFY, {"token": capsys.readouterr().out.strip()}).status_code == 302
    assert home(client) == 200


def test_it_is_in_the_audit_log_without_its_secret(ada: User, enrolled: tuple[Phone, list[str]]) -> None:
    kept = [entry for entry in AuditEntry.objects.all() if entry.content_type.model == "totpdevice"]
    assert [changes.what(entry).split()[0] for entry in kept] == ["changed", "added"]
    assert TOTPDevice.objects.get().key not in repr(list(AuditEntry.objects.values()))


class TestWhenItIsRequired:
    @pytest.fixture(autouse=True)
    def required(self, settings: Any) -> None:
        settings.REQUIRE_TWO_FACTOR = True

    def test_who_has_none_sees_nothing_before_it_is_set_up(self, client: Client, ada: User) -> None:
        log_in(client, ada)
        for page in ("/admin/", "/admin/events/event/", "/admin/flower/", "/admin/password_change/"):
            assert client.get(page).headers["Location"] == PAGE
            assert client.post(page).headers["Location"] == PAGE
        told = client.get(PAGE).content.decode()
        assert "needs a second factor" in told
        set_up(client)
        assert home(client) == 200
        client.logout()
        log_in(client, ada)
        assert client.get("/admin/").headers["Location"].startswith(VERIFY)

    def test_who_turns_it_off_sets_it_up_anew(self, client: Client, ada: User) -> None:
        log_in(client, ada)
        phone, _ = set_up(client)
        client.post(PAGE, {"off": "yes", "token": phone.code()})
        assert client.get("/admin/").headers["Location"] == PAGE

    def test_somebody_can_always_log_out(self, client: Client, ada: User) -> None:
        log_in(client, ada)
        assert client.post(reverse("admin:logout")).status_code == 200
        assert "login" in client.get("/admin/").headers["Location"]

    def test_programs_and_links_that_decide_are_not_asked(self, client: Client, ada: User) -> None:
        log_in(client, ada)
        assert client.get("/api/v1/events").status_code == 401
        assert client.get("/steps/x").status_code == 404
        assert client.get("/api/docs").status_code == 200


def test_nothing_that_is_sent_is_an_error(client: Client, ada: User) -> None:
    log_in(client, ada)
    for token in ("", "0" * 500, "\0", "١٢٣٤٥٦", "☃", "-1", "1e5", " "):
        assert client.post(PAGE, {"token": token}).status_code == 200, token
    TOTPDevice.objects.update(
        throttling_failure_timestamp=timezone.now() - timedelta(days=1), throttling_failure_count=1
    )
    set_up(client)
    client.logout()
    log_in(client, ada)
    for token in ("", "0" * 500, "\0", "١٢٣٤٥٦", "☃", "-1", "1e5", " ", "a" * 40):
        assert client.post(VERIFY, {"token": token}).status_code == 200, token
