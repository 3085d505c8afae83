"""Carillon in real processes, on a database of its own, for tests that kill things."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

from django.db import connections
from environ import Env

from project.children import Child, kill, last_lines, stop
from project.embedded import Postgres, Valkey, free_port
from project.processes import PROCESSES
from tests import servers

T = TypeVar("T")
TEMPLATE = "carillon_migrated"


class Live:
    """The processes of one Carillon: start, stop, kill and restart them by name.

    `postgres` may be restarted and `valkey` stopped, flushed or frozen: no other test uses them at the same time.
    Django's own connection, in the test, is to the same database. Set `environment` before starting a process: the mail
    server it names is nobody's, the inbox's would be `smtp_port`.
    """

    def __init__(self, directory: Path, postgres: Postgres, database: str, valkey: Valkey) -> None:
        self.directory = directory
        self.postgres = postgres
        self.valkey = valkey
        self.port, self.flower_port, self.smtp_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.flower_url = f"http://127.0.0.1:{self.flower_port}"
        self.children: dict[str, Child] = {}
        self.environment = {
            **os.environ,
            **servers.ENVIRONMENT,
            "DATABASE_URL": postgres.url_of(database),
            "REDIS_URL": valkey.url,
            "CELERY_BROKER_URL": valkey.url,
            "CARILLON_URL": self.url,
            "FLOWER_URL": self.flower_url,
            "DATA_DIR": str(directory),
            "LOG_LEVEL": "INFO",
            "DEBUG": "0",
        }

    def start(self, *names: str) -> None:
        """Start processes (`web`, `worker`, `flower`, …, or a second one: `clock-2`); returns at once."""
        for name in names:
            process = PROCESSES[name.removesuffix("-2")]
            command = process.argv(
                host="127.0.0.1",
                port=self.port,
                flower_port=self.flower_port,
                inbox_smtp_port=self.smtp_port,
                web_processes=1,
                worker_processes=2,
            )
            debug = {"DEBUG": "1"} if process.name == "web" else {}  # static files without `collectstatic`
            environment = {**self.environment, **debug, **process.variables}
            self.children[name] = servers.nursery.spawn(command, log=self.log(name), env=environment)

    def stop(self, *names: str, patience: float = 10) -> bool:
        """SIGTERM, and SIGKILL to what is still there after that many seconds. True: all went by themselves."""
        went = [stop(self.children.pop(name), patience=patience) for name in names]
        return all(went)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal to the process and all its children; a killed one has to be started again."""
        if number is signal.SIGKILL:
            kill(self.children.pop(name))
        else:
            os.killpg(self.children[name].pid, number)

    def restart(self, *names: str) -> None:
        self.stop(*names)
        self.start(*names)

    def wait_ready(self, seconds: float = 60) -> None:
        """Until /readyz answers 200; AssertionError with what it says instead."""
        deadline = time.monotonic() + seconds
        while True:
            ready, answer = self._readiness()
            if ready:
                return
            for name, child in self.children.items():
                assert child.poll() is None, f"{name} ended:\n{last_lines(self.log(name))}"
            assert time.monotonic() < deadline, f"not ready after {seconds} s: {answer}"
            time.sleep(0.1)

    def manage(self, *words: str, **environment: str) -> str:
        """Run a management command against this Carillon; what it printed. CalledProcessError when it fails."""
        command, env = [sys.executable, "manage.py", *words], {**self.environment, **environment}
        return servers.nursery.run(command, env=env).stdout

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def close(self) -> None:
        for child in self.children.values():
            kill(child)
        self.children.clear()

    def _readiness(self) -> tuple[bool, str]:
        try:
            with urlopen(f"{self.url}/readyz", timeout=5) as response:
                return True, response.read().decode()
        except HTTPError as error:
            with error:
                return False, error.read().decode()
        except OSError as error:
            return False, str(error)


@contextmanager
def living(name: str, postgres: Postgres) -> Iterator[Live]:
    """A Carillon in real processes on an empty, migrated database of that name; nothing is started yet."""
    directory = servers.directory / name
    directory.mkdir()
    url = postgres.create_database(name, template=TEMPLATE)
    with Valkey(directory / "valkey") as valkey, django_connected_to(url):
        live = Live(directory, postgres, name, valkey)
        try:
            yield live
        finally:
            live.close()
    if postgres.process is None:
        postgres.start()
    postgres.drop_database(name)


def wait_until(check: Callable[[], T], *, seconds: float = 15, what: str = "") -> T:
    """What `check` returns once that is true; AssertionError (telling `what`) when it takes longer."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what or 'it'} did not come true within {seconds} s (last: {found!r})"
        time.sleep(0.05)
    return found


def migrated_template(postgres: Postgres) -> None:
    """A migrated database that others are cloned from: faster than migrating each."""
    environment = {**os.environ, **servers.ENVIRONMENT, "DATABASE_URL": postgres.create_database(TEMPLATE)}
    servers.nursery.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        env={**environment, "CARILLON_PROCESS": "migrate"},
    )


@contextmanager
def django_connected_to(url: str) -> Iterator[None]:
    """Django's default connection, in every thread, goes to another database for a while."""
    connections.close_all()
    settings = connections.settings["default"]
    saved = {"NAME": settings["NAME"], "OPTIONS": settings["OPTIONS"]}
    there = Env.db_url_config(url)
    settings.update(NAME=there["NAME"], OPTIONS={**saved["OPTIONS"], **there["OPTIONS"]})
    try:
        yield
    finally:
        with suppress(Exception):  # PostgreSQL may be stopped, as the test wished
            connections.close_all()
        settings.update(saved)
