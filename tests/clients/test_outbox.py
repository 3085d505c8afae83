"""A foreign Django project emits events in its own transactions: each that commits is in Carillon, once."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from events.models import ApiKey, Event, EventType, Source
from project.children import Child, kill
from project.scopes import Scope
from tests import servers
from tests.events.conftest import ORDER, event_type
from tests.live import Live, wait_until
from tests.sinks import Answer, HttpSink
from tests.workflows.actions.databases import KINDS, empty_database

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "django"]

pytestmark = pytest.mark.flow

_numbers = itertools.count(1)


class Shop:
    """The project tests/clients/shop, with a database of its own, in processes of its own."""

    def __init__(self, directory: Path, database: str, carillon: str, key: str) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "django")]),
            "DJANGO_SETTINGS_MODULE": "tests.clients.shop.settings",
            "SHOP_DATABASE_URL": database,
            "CARILLON_URL": carillon,
            "CARILLON_API_KEY": key,
        }
        self.directory = directory
        self.senders: list[Child] = []
        self.manage("migrate", "--run-syncdb", "--verbosity", "0")

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**self.environment, **environment}
        return servers.nursery.run([*COMMAND, *words], env=env, check=False)

    def manage(self, *words: str, **environment: str) -> str:
        """Run a command; what it printed and logged."""
        done = self.run(*words, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def each(self, *commands: str) -> str:
        """Run these commands in one process, which saves time; what they printed and logged."""
        calls = [f"call_command(*{command.split()!r})" for command in commands]
        return self.manage("shell", "-c", "\n".join(["from django.core.management import call_command", *calls]))

    def sender(self, *words: str, **environment: str) -> tuple[Child, Path]:
        """Start a `send_events`; itself, and its log."""
        log = self.directory / f"sender-{len(self.senders)}.log"
        environment = {**self.environment, **environment}
        self.senders.append(servers.nursery.spawn([*COMMAND, "send_events", *words], log=log, env=environment))
        return self.senders[-1], log

    def status(self) -> tuple[int, int]:
        """How many events wait, and how many were refused."""
        found = re.search(r"waiting=(\d+) oldest_seconds=[\d.]+ refused=(\d+)", self.manage("outbox_status"))
        assert found
        return int(found[1]), int(found[2])


@pytest.fixture(scope="module")
def carillon(shared_live: Live) -> Live:
    """A Carillon that takes events."""
    event_type("order.paid", ORDER)
    Source.objects.create(name="shop")
    shared_live.start("web")
    wait_until(lambda: answers(shared_live), seconds=30, what="the web process answers")
    return shared_live


def answers(live: Live) -> bool:
    try:
        return requests.get(f"{live.url}/healthz", timeout=5).ok
    except requests.ConnectionError:
        return False


@contextmanager
def opened(carillon: Live, kind: str, directory: Path) -> Iterator[Shop]:
    """A shop with an empty database of that kind, and a key for the Carillon."""
    _, key = ApiKey.issue(Source.objects.get(), "tests", [Scope.EVENTS_WRITE])
    with empty_database(kind, directory) as url:
        shop = Shop(directory, url.replace("mysql+pymysql://", "mysql://"), carillon.url, key)
        yield shop
        for sender in shop.senders:
            kill(sender)


@pytest.fixture(params=KINDS)
def shop_of_each_kind(request: pytest.FixtureRequest, carillon: Live, tmp_path: Path) -> Iterator[Shop]:
    with opened(carillon, request.param, tmp_path) as shop:
        yield shop


@pytest.fixture(scope="module")
def shop(carillon: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """On PostgreSQL. Each test leaves its outbox empty."""
    with opened(carillon, "postgresql", tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def name() -> str:
    """Of what a test sells."""
    return f"S{next(_numbers)}"


def arrived(name: str) -> list[str]:
    """The subjects of the events of this name, in the order in which Carillon stored them."""
    return list(Event.objects.filter(subject__startswith=f"{name}-").order_by("uid").values_list("subject", flat=True))


def sold(name: str, times: int) -> list[str]:
    return [f"{name}-{number}" for number in range(times)]


def test_what_commits_is_sent_in_order_once_and_what_is_rolled_back_is_not(shop_of_each_kind: Shop, name: str) -> None:
    shop = shop_of_each_kind
    shop.each(
        f"sell {name}-a --times 3", f"sell {name}-b --times 2 --undone", f"sell {name}-c --type no", f"sell {name}-d"
    )
    assert not arrived(name)
    told = shop.each("outbox_status", "send_events --once", "outbox_status", "send_events --once")
    assert re.findall(r"waiting=(\d) oldest_seconds=[\d.]+ refused=(\d)", told) == [("5", "0"), ("0", "1")]
    assert re.findall(r"accepted=(\d) duplicates=(\d) refused=(\d)", told) == [("4", "0", "1")]
    assert arrived(name) == [*sold(f"{name}-a", 3), f"{name}-d-0"]
    event = Event.objects.get(subject=f"{name}-d-0")
    assert (event.source, event.data) == ("/shop", {"order_id": f"{name}-d-0", "amount": 1.5})


def test_what_is_refused_is_kept_with_the_reason_and_sent_again_from_the_admin(shop: Shop, name: str) -> None:
    # The second has an amount of null, which the schema does not take.
    shop.each(f"sell {name}-a --type no.{name}", f"sell {name}-b --amount=-1", f"sell {name}-c", "send_events --once")
    assert arrived(name) == [f"{name}-c-0"]
    assert shop.status() == (0, 2)
    told = shop.manage("shell", "-c", BY_HAND)
    assert f"type: there is no event type 'no.{name}'" in told
    assert 'data.amount: null is not of type "number"' in told
    EventType.objects.create(name=f"no.{name}")
    assert "accepted=1 duplicates=0 refused=1" in shop.manage("send_events", "--once")
    assert arrived(name) == [f"{name}-c-0", f"{name}-a-0"]
    shop.manage("shell", "-c", "OutgoingEvent.objects.exclude(refused_at=None).delete()")


BY_HAND = """
from carillon_outbox.models import OutgoingEvent
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("ada"))
page = "/admin/carillon_outbox/outgoingevent/"
print(client.get(page).content.decode().replace("&#x27;", "'").replace("&quot;", '"'))
event = OutgoingEvent.objects.first()
assert client.get(f"{page}{event.pk}/change/").status_code == 200
assert client.get(f"{page}add/").status_code == 403
chosen = list(OutgoingEvent.objects.values_list("pk", flat=True))
assert client.post(page, {"action": "send_again", "_selected_action": chosen}).status_code == 302
assert not OutgoingEvent.objects.exclude(refused_at=None).exists()
"""


class Between(HttpSink):
    """Hands requests on to Carillon, and keeps its answers back until `release` is set."""

    def __init__(self, carillon: str) -> None:
        super().__init__()
        self.carillon = carillon
        self.stored, self.release = threading.Event(), threading.Event()

    def _take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        passed = {name: headers[name] for name in ("authorization", "content-type")}
        answer = requests.post(f"{self.carillon}{path}", data=body, headers=passed, timeout=30)
        self.stored.set()
        self.release.wait(30)
        return Answer(answer.status_code, answer.content)


def test_a_sender_that_is_killed_after_the_event_was_stored_doubles_nothing(
    shop: Shop, carillon: Live, name: str
) -> None:
    shop.manage("sell", name, "--times", "3")
    between = Between(carillon.url)
    between.start()
    try:
        sender, _ = shop.sender(CARILLON_URL=between.url("").rstrip("/"))
        assert between.stored.wait(30)
        kill(sender)
    finally:
        between.release.set()
        between.stop()
    assert arrived(name) == sold(name, 3)
    assert shop.status() == (3, 0), "it could not delete them"
    told = shop.each("send_events --once", "outbox_status")
    assert "accepted=3 duplicates=3 refused=0" in told
    assert "waiting=0" in told
    assert arrived(name) == sold(name, 3)


def test_while_carillon_is_away_nothing_is_lost(shop: Shop, carillon: Live, name: str) -> None:
    carillon.stop("web")
    shop.manage("sell", name, "--times", "250")
    sender, log = shop.sender()
    wait_until(lambda: "waiting=250" in log.read_text(), what="the sender says what waits")
    assert re.search(r"cannot be reached: .*; next try in \d\.\d s; waiting=250 oldest_seconds=", log.read_text())
    late = shop.run("outbox_status", "--max-age", "0.001")
    assert (late.returncode, "does send_events run?" in late.stderr) == (1, True)
    assert "cannot be reached" in shop.run("send_events", "--once").stderr
    carillon.start("web")
    wait_until(lambda: len(arrived(name)) == 250, seconds=60, what="all have come")
    assert arrived(name) == sold(name, 250)
    wait_until(lambda: shop.status() == (0, 0), what="the outbox is empty")
    sender.send_signal(signal.SIGTERM)
    assert sender.wait(15) == 0
    assert [int(n) for n in re.findall(r"accepted=(\d+)", log.read_text())] == [100, 100, 50]


def test_several_senders_share_the_work(shop: Shop, name: str) -> None:
    shop.manage("sell", name, "--times", "1000")
    senders = [shop.sender("--once") for _ in range(3)]
    assert [sender.wait(60) for sender, _ in senders] == [0, 0, 0]
    told = "".join(log.read_text() for _, log in senders)
    assert shop.status() == (0, 0)
    assert sorted(arrived(name)) == sorted(sold(name, 1000))
    assert sum(map(int, re.findall(r"accepted=(\d+)", told))) == 1000
    assert sum(map(int, re.findall(r"duplicates=(\d+)", told))) == 0


NO_FAULT_OF_THE_EVENTS = {
    "it answered 503: ": Answer(503, b"", {"Retry-After": "5"}),
    "it answered 401: No such API key.": Answer(401, b'{"detail": "No such API key."}'),
    "it answered 404: ": Answer(404, b"<html>"),
    "it answered 302: ": Answer(302, b"", {"Location": "/elsewhere"}),
    "is no Carillon": Answer(200, b"<html>hello"),
    "took 0 of 2 events": Answer(202, b'{"accepted": 0, "duplicates": 0}'),
}


def test_what_is_no_fault_of_the_events_keeps_them(shop: Shop, http_sink: HttpSink, name: str) -> None:
    http_sink.answers["/api/v1/events"] = [*NO_FAULT_OF_THE_EVENTS.values()]
    shop.manage("sell", name, "--times", "2")
    for told in NO_FAULT_OF_THE_EVENTS:
        done = shop.run("send_events", "--once", CARILLON_URL=http_sink.url("/"))
        assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    assert [request.method for request in http_sink.requests] == ["POST"] * len(NO_FAULT_OF_THE_EVENTS)
    assert "accepted=2 duplicates=0 refused=0" in shop.manage("send_events", "--once")
    assert arrived(name) == sold(name, 2)


def test_without_settings_it_says_which(shop: Shop) -> None:
    done = shop.run("send_events", CARILLON_API_KEY="")
    assert (done.returncode, "Set CARILLON_URL and CARILLON_API_KEY" in done.stderr) == (1, True)


def test_the_migrations_are_complete(shop: Shop) -> None:
    assert "No changes detected" in shop.manage("makemigrations", "--check", "--dry-run", "carillon_outbox")


def test_what_cannot_be_an_event_is_a_mistake_of_the_code(shop: Shop) -> None:
    shop.manage("shell", "-c", MISTAKES)
    assert shop.status() == (0, 0)


MISTAKES = """
from carillon_outbox.emit import emit
for error, given in (
    (ValueError, {"type": ""}),
    (ValueError, {"type": "note", "subject": "é" * 251}),
    (ValueError, {"type": "note", "id": "a\\0"}),
    (ValueError, {"type": "note", "data": float("nan")}),
    (ValueError, {"type": "note", "data": "é" * 140_000}),
    (TypeError, {"type": "note", "data": object()}),
):
    try:
        emit(**given)
    except error as told:
        print(told)
    else:
        raise AssertionError(given)
"""
