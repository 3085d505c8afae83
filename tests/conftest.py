"""What every test may ask for: servers of our own, a far side of the network, real processes, a browser."""

import itertools
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import TransactionTestCase
from playwright.sync_api import Browser, Page, sync_playwright
from pytest_django.plugin import DjangoDbBlocker

from project.children import last_lines
from project.embedded import Postgres
from tests import servers
from tests.brokers import counterparts
from tests.live import Live, living, migrated_template
from tests.sinks import HttpSink, SmtpSink

_numbers = itertools.count(1)

KEPT = {
    *("django_migrations", "django_content_type", "project_revision"),
    *("auth_permission", "auth_group", "auth_group_permissions"),  # the roles: `migrate` made them
}


def _empty_filled_tables(self: TransactionTestCase) -> None:
    """What follows a `transaction=True` test. Django would empty all tables and make all permissions anew: a second."""
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor)) - KEPT
        cursor.execute(
            " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in sorted(tables))
        )
        if filled := [table for (table,) in cursor.fetchall()]:
            cursor.execute(f"TRUNCATE {', '.join(filled)} CASCADE")


TransactionTestCase._fixture_teardown = _empty_filled_tables  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """The whole server is thrown away; dropping the database first would only stumble over a thread still connected."""
    return True


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The session's Valkey, empty before and after the test."""
    with redis.Redis.from_url(servers.valkey.url) as client:
        client.flushall()
        yield servers.valkey.url
        client.flushall()


@pytest.fixture(scope="session")
def brokers() -> Iterator[Path]:
    """Where the session's message brokers are kept (tests/brokers): each is started when it is asked for."""
    directory = servers.directory / "brokers"
    directory.mkdir()
    yield directory
    counterparts.stop_all()


@pytest.fixture
def http_sink() -> Iterator[HttpSink]:
    """A real HTTP server that remembers what it gets and answers as told."""
    sink = HttpSink().start()
    yield sink
    sink.stop()


@pytest.fixture
def smtp_sink() -> Iterator[SmtpSink]:
    """A real SMTP server that remembers what it gets and refuses as told."""
    sink = SmtpSink().start()
    yield sink
    sink.stop()


@pytest.fixture(scope="session")
def live_postgres() -> Iterator[Postgres]:
    """A second PostgreSQL, which `live` tests may restart without breaking anybody else's connection."""
    with Postgres(servers.directory / "live-postgres", durable=False) as postgres:
        migrated_template(postgres)
        yield postgres


@pytest.fixture
def live(live_postgres: Postgres, django_db_blocker: DjangoDbBlocker) -> Iterator[Live]:
    """A Carillon in real processes on an empty, migrated database, for one test; nothing is started yet."""
    with django_db_blocker.unblock(), living(f"live_{next(_numbers)}", live_postgres) as live:
        yield live


@pytest.fixture(scope="module")
def shared_live(live_postgres: Postgres, django_db_blocker: DjangoDbBlocker) -> Iterator[Live]:
    """A Carillon for the tests of a module, which do not mind each other."""
    with django_db_blocker.unblock(), living(f"live_{next(_numbers)}", live_postgres) as live:
        yield live


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of one module; they are skipped when this machine has none.

    Not for longer: Playwright keeps an event loop running in this thread, which other modules' tests would find.
    """
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium or not Path(chromium).exists():
        pytest.skip("no Chromium here: install the package `chromium`, or set CHROMIUM to its path")
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Django would refuse its ORM beside the loop
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page, of somebody whom nothing here knows yet."""
    with browser.new_context(viewport={"width": 1440, "height": 1000}) as context:
        context.set_default_timeout(15_000)
        yield context.new_page()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the ends of its processes' logs."""
    report = yield
    live = getattr(item, "funcargs", {}).get("live")
    if live is not None and report.failed:
        for name in live.children:
            report.sections.append((f"the end of {name}.log", last_lines(live.log(name), 40)))
    return report
