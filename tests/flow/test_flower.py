"""Flower behind the admin's login, in real processes: who gets in, what they may do, and what programs may."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from django.contrib.auth.models import Group, User
from django.utils.crypto import salted_hmac
from django_otp.plugins.otp_totp.models import TOTPDevice
from requests import Response, Session
from tornado.web import create_signed_value

from project import flowerlogin, tickets
from project.roles import Role
from project.tickets import Ticket
from tests.live import Live, wait_until

pytestmark = pytest.mark.flow

PASSWORD = "a password for tests"
PROGRAM = ("prometheus", "a password of programs")
TIMEOUT = 20


@pytest.fixture(scope="module")
def live(shared_live: Live) -> Live:
    shared_live.environment["FLOWER_BASIC_AUTH"] = "other:word,{}:{}".format(*PROGRAM)
    for role in (None, *Role):
        user = User.objects.create_user(f"{role}", password=PASSWORD, is_staff=True)
        user.groups.set(Group.objects.filter(name=role))
    shared_live.start("web", "worker", "flower")

    def ready() -> bool:
        try:
            workers = requests.get(f"{shared_live.flower_url}/api/workers?refresh=1", auth=PROGRAM, timeout=TIMEOUT)
            return workers.ok and bool(workers.json()) and requests.get(f"{shared_live.url}/healthz", timeout=5).ok
        except requests.ConnectionError:
            return False

    wait_until(ready, seconds=60, what="Flower with a worker")
    return shared_live


def log_in(live: Live, name: str, url: str) -> tuple[Session, Response]:
    """Open the address in a fresh browser, log in where it leads, and go on to wherever that leads."""
    session = Session()
    form = session.get(url, timeout=TIMEOUT)
    assert form.url.startswith(f"{live.url}/admin/login/"), form.url
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
    assert found
    given = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": found[1]}
    return session, session.post(form.url, given, headers={"Referer": form.url}, timeout=TIMEOUT)


def act(live: Live, session: Session, **headers: str) -> Response:
    """What a button of Flower does: one more process for a worker."""
    workers = requests.get(f"{live.flower_url}/api/workers", auth=PROGRAM, timeout=TIMEOUT).json()
    headers = {
        "X-Requested-With": "XMLHttpRequest",
        "Sec-Fetch-Site": "same-origin",
        "X-XSRFToken": session.cookies.get("_xsrf", domain="127.0.0.1") or "",
        **headers,
    }
    url = f"{live.flower_url}/api/worker/pool/grow/{next(iter(workers))}?n=1"
    return session.post(url, headers=headers, timeout=TIMEOUT, allow_redirects=False)


@pytest.mark.parametrize("path", ["/", "/tasks?state=SUCCESS&limit=5", "/broker"])
@pytest.mark.parametrize("role", Role)
def test_every_role_gets_in_by_the_admins_login_to_the_page_it_wanted(live: Live, role: Role, path: str) -> None:
    session, page = log_in(live, role.value, f"{live.flower_url}{path}")
    assert (page.status_code, page.url) == (200, f"{live.flower_url}{path}")
    assert f"Log out {role.value}" in page.text
    assert session.get(f"{live.flower_url}/workers", timeout=TIMEOUT).url == f"{live.flower_url}/workers"


def test_whoever_is_logged_in_is_not_asked_again(live: Live) -> None:
    session, _ = log_in(live, "viewer", f"{live.url}/admin/")
    page = session.get(f"{live.flower_url}/tasks", timeout=TIMEOUT)
    assert (page.status_code, page.url) == (200, f"{live.flower_url}/tasks")
    assert session.get(f"{live.url}/admin/flower/", timeout=TIMEOUT).url.startswith(live.flower_url)


def test_who_has_no_role_is_told_so(live: Live) -> None:
    session, page = log_in(live, "None", f"{live.flower_url}/")
    assert page.url == f"{live.url}/admin/"
    assert "You may not open Flower" in page.text
    assert "login" in session.get(f"{live.flower_url}/", timeout=TIMEOUT, allow_redirects=False).headers["Location"]


def test_a_second_factor_is_asked_for_here_too(live: Live) -> None:
    user = User.objects.create_user("careful", password=PASSWORD, is_superuser=True, is_staff=True)
    TOTPDevice.objects.create(user=user, name="app")
    _, page = log_in(live, "careful", f"{live.flower_url}/")
    assert page.url.startswith(f"{live.url}/admin/two-factor/verify/")


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 200), ("editor", 200)])
def test_only_operators_and_editors_act_and_see_buttons(live: Live, role: str, status: int) -> None:
    session, _ = log_in(live, role, f"{live.flower_url}/")
    answer = act(live, session)
    assert answer.status_code == status, answer.text
    assert ("Operators and editors may act" in answer.text) == (status == 403)
    worker = next(iter(requests.get(f"{live.flower_url}/api/workers", auth=PROGRAM, timeout=TIMEOUT).json()))
    page = session.get(f"{live.flower_url}/worker/{worker}", timeout=TIMEOUT).text
    assert ("Shut Down" in page or "worker-shutdown" in page) == (status == 200)
    assert session.get(f"{live.flower_url}/api/tasks", timeout=TIMEOUT).status_code == 200  # reading


def test_another_sites_form_does_nothing(live: Live) -> None:
    session, _ = log_in(live, "operator", f"{live.flower_url}/")
    assert act(live, session, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert act(live, session, **{"X-XSRFToken": ""}).status_code == 403


def test_without_a_login_there_is_only_the_health_check(live: Live) -> None:
    def ask(path: str, method: str = "GET") -> Response:
        return requests.request(method, f"{live.flower_url}{path}", timeout=TIMEOUT, allow_redirects=False)

    assert ask("/healthcheck").status_code == 200
    assert ask("/metrics").status_code == 401
    for path in ("/", "/tasks", "/workers?json=1", "/broker", "/task/x", "/worker/x", "/tasks/datatable"):
        assert ask(path).headers["Location"].startswith("/login?next="), path
    for path in ("/api/workers", "/api/tasks", "/api/task/types", "/api/queues/length", "/api/task/info/x"):
        assert ask(path).headers["Location"].startswith("/login?next="), path
    assert act(live, Session()).status_code in (401, 403)


def test_programs_have_a_password_of_their_own(live: Live) -> None:
    def ask(auth: tuple[str, str] | None) -> int:
        return requests.get(f"{live.flower_url}/metrics", auth=auth, timeout=TIMEOUT, allow_redirects=False).status_code

    assert ask(PROGRAM) == 200
    assert ask(("other", "word")) == 200
    assert ask((PROGRAM[0], "wrong")) == 401
    for header in ("Basic", "Basic ☃".encode().decode("latin-1"), "Basic !!!", "Bearer x", ""):
        answer = requests.get(f"{live.flower_url}/metrics", headers={"Authorization": header}, timeout=TIMEOUT)
        assert answer.status_code == 401, header
    workers = requests.get(f"{live.flower_url}/api/workers", auth=PROGRAM, timeout=TIMEOUT)
    assert workers.status_code == 200


class TestTickets:
    """What the browser carries from the admin to Flower."""

    def state(self, live: Live, session: Session) -> str:
        sent = session.get(f"{live.flower_url}/login?next=/", timeout=TIMEOUT, allow_redirects=False)
        return parse_qs(urlsplit(sent.headers["Location"]).query)["state"][0]

    def use(self, live: Live, session: Session, ticket: str, there: str = "/tasks") -> Response:
        return session.get(
            f"{live.flower_url}/login",
            params={"ticket": ticket, "next": there},
            timeout=TIMEOUT,
            allow_redirects=False,
        )

    def test_are_good_in_the_browser_that_asked(self, live: Live) -> None:
        session = Session()
        ticket = tickets.write(Ticket("ada", acts=False), self.state(live, session))
        assert self.use(live, session, ticket).headers["Location"] == "/tasks"
        assert session.get(f"{live.flower_url}/tasks", timeout=TIMEOUT).url.endswith("/tasks")

    def test_are_no_good_in_another(self, live: Live) -> None:
        stranger, other = Session(), Session()
        ticket = tickets.write(Ticket("ada", acts=True), self.state(live, stranger))
        assert self.use(live, other, ticket).status_code == 403
        self.state(live, other)
        assert self.use(live, other, ticket).status_code == 403

    def test_cannot_be_made_up(self, live: Live) -> None:
        session = Session()
        ticket = tickets.write(Ticket("ada", acts=False), self.state(live, session))
        for forged in (
            ticket[:-1],
            ticket.replace(":", "."),
            "x",
            "",
            "☃",
            tickets.write(Ticket("ada", acts=True), ""),
        ):
            assert self.use(live, session, forged).status_code == 403, forged

    def test_lead_nowhere_but_to_flower(self, live: Live) -> None:
        session = Session()
        ticket = tickets.write(Ticket("ada", acts=False), self.state(live, session))
        for there in ("https://evil.example.com/", "//evil.example.com/", "/\\evil.example.com", "javascript:alert(1)"):
            assert self.use(live, session, ticket, there).headers["Location"] == "/", there


def test_a_ticket_is_good_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = tickets.write(Ticket("ada", acts=True), "state")
    assert tickets.read(ticket, "state") == Ticket("ada", acts=True)
    later = time.time() + tickets.SECONDS + 1
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    assert tickets.read(ticket, "state") is None


def test_a_login_is_looked_at_again_after_a_while(live: Live) -> None:
    session, _ = log_in(live, "operator", f"{live.flower_url}/")
    secret = salted_hmac("carillon.flower", "cookies").hexdigest()

    def ask(age: float, headers: dict[str, str] | None = None) -> Response:
        told = json.dumps({"user": "operator", "acts": True, "at": time.time() - age})
        made = create_signed_value(secret, flowerlogin.COOKIE, told, clock=lambda: time.time() - age).decode()
        cookies = {flowerlogin.COOKIE: made, "_xsrf": session.cookies.get("_xsrf", domain="127.0.0.1") or ""}
        url = f"{live.flower_url}/tasks"
        return requests.get(url, cookies=cookies, headers=headers, timeout=TIMEOUT, allow_redirects=False)

    by_the_page = {"X-Requested-With": "XMLHttpRequest"}
    assert ask(flowerlogin.FRESH - 60).status_code == 200
    assert ask(flowerlogin.FRESH + 60).headers["Location"].startswith("/login")
    assert ask(flowerlogin.FRESH + 60, by_the_page).status_code == 200  # what is open goes on
    assert ask(flowerlogin.KEPT + 60, by_the_page).headers["Location"].startswith("/login")

    told = json.dumps({"user": "operator", "acts": True, "at": time.time() - flowerlogin.FRESH - 60})
    session.cookies.clear(domain="127.0.0.1", path="/", name=flowerlogin.COOKIE)
    session.cookies.set(flowerlogin.COOKIE, create_signed_value(secret, flowerlogin.COOKIE, told).decode())
    answer = act(live, session)
    assert answer.status_code == 401
    assert "Reload this page" in answer.text
