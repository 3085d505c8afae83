# ruff: noqa: F811  a fixture of another module is a parameter here
"""Wrong passwords: after some of them a name is locked, for a while, where they came from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from project.login import address_of
from tests.project.test_admin import quick_passwords  # noqa: F401  a fixture

pytestmark = pytest.mark.django_db

PASSWORD = "a password of ada"
HERE, THERE = "192.0.2.7", "2001:db8::7"


@pytest.fixture(autouse=True)
def ada(settings: Any, quick_passwords: None) -> User:
    settings.AXES_FAILURE_LIMIT = 3
    return User.objects.create_superuser("ada", password=PASSWORD)


def attempt(client: Client, password: str = "wrong", *, name: str = "ada", address: str = HERE, **meta: Any) -> Any:
    given = {"username": name, "password": password, "next": "/admin/"}
    return client.post(reverse("admin:login"), given, REMOTE_ADDR=address, **meta)


def lock(client: Client) -> Any:
    answers = [attempt(client) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    return answers[-1]


def test_the_page_says_until_when_and_what_helps(client: Client) -> None:
    answer = lock(client)
    told = answer.content.decode()
    assert 14 * 60 < int(answer.headers["Retry-After"]) <= 15 * 60
    for words in ("Too many wrong passwords", "ada", "14\xa0minutes", "manage.py axes_reset_username"):
        assert words in told


def test_the_right_password_is_no_help_any_more(client: Client) -> None:
    lock(client)
    assert attempt(client, PASSWORD).status_code == 429
    assert "login" in client.get("/admin/").headers["Location"]


def test_somebody_elsewhere_is_not_locked_out_by_it(client: Client) -> None:
    lock(client)
    assert attempt(client, PASSWORD, address=THERE).status_code == 302
    assert attempt(client, name="grace").status_code == 200


def test_waiting_helps_even_if_somebody_goes_on_trying(client: Client) -> None:
    lock(client)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=14))
    assert attempt(client).status_code == 429
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert attempt(client, PASSWORD).status_code == 302


def test_an_administrator_unlocks_by_a_command(client: Client) -> None:
    lock(client)
    call_command("axes_reset_username", "ada")
    assert attempt(client, PASSWORD).status_code == 302


def test_the_right_password_in_time_forgets_the_wrong_ones(client: Client) -> None:
    for _ in range(2):
        assert [attempt(client).status_code for _ in range(2)] == [200, 200]
        assert attempt(client, PASSWORD).status_code == 302


def test_no_password_is_kept(client: Client) -> None:
    attempt(client, "nearly the right one")
    assert "nearly" not in repr(list(AccessAttempt.objects.values()))


def test_nothing_that_is_sent_is_an_error(client: Client) -> None:
    for name in ("x" * 1000, "\0", "☃" * 150, "<script>", ""):
        assert attempt(client, name=name).status_code in (200, 429)
    answer = client.post(f"{reverse('admin:login')}?next=%00", {"username": "ada", "password": "wrong"})
    assert answer.status_code == 200
    for header in ("x" * 5000, "☃"):
        meta = {"HTTP_USER_AGENT": header, "HTTP_ACCEPT": header, "HTTP_X_FORWARDED_FOR": header}
        assert attempt(client, **meta).status_code in (200, 429)
    for _ in range(5):
        answer = attempt(client, name="<script>alert(1)</script>")
    assert answer.status_code == 429
    assert b"<script>alert" not in answer.content


@pytest.mark.parametrize(
    ("behind_proxy", "forwarded", "address"),
    [
        (False, "203.0.113.9", HERE),  # anybody may write such a header
        (True, "203.0.113.9", "203.0.113.9"),
        (True, "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # what the proxy saw, not what it was told
        (True, "203.0.113.9, nonsense", HERE),
        (True, "", HERE),
    ],
)
def test_where_somebody_comes_from(settings: Any, behind_proxy: bool, forwarded: str, address: str) -> None:
    settings.BEHIND_PROXY = behind_proxy
    request = RequestFactory().get("/", REMOTE_ADDR=HERE, HTTP_X_FORWARDED_FOR=forwarded)
    assert address_of(request) == address


def test_somebody_may_come_from_nowhere() -> None:
    assert address_of(RequestFactory().get("/", REMOTE_ADDR="")) is None  # by a unix socket
