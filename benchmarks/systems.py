"""What is measured: Carillon and a hand-rolled DRF view with a Celery chain, as processes on the same servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from cryptography.fernet import Fernet

from project import envfile
from project.children import Child, kill, spawn, stop
from project.embedded import Postgres, Valkey, free_port
from project.processes import PROCESSES

ROOT = Path(__file__).parent.parent
CONFIGURATION = Path(__file__).parent / "configuration"
TEMPLATE = "bench_template"
CARILLON = ("web", "worker", "performer", "sender", "clock")


@dataclass
class System:
    """A system under test: its processes, its database, and where it takes events."""

    name: str
    directory: Path
    database: str
    environment: Mapping[str, str]
    commands: Mapping[str, list[str]]
    port: int
    ready_path: str = ""  # answers 200 when all is there; without it an open port is enough
    api_key: str = ""
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/events"

    def start(self, name: str) -> None:
        process = PROCESSES[name].variables if self.ready_path else {}
        env = {**os.environ, **self.environment, **process}
        self.children[name] = spawn(self.commands[name], log=self.directory / f"{self.name}-{name}.log", env=env)

    def stop(self) -> None:
        for child in self.children.values():
            child.send_signal(signal.SIGTERM)
        for child in self.children.values():
            stop(child, patience=3)
        self.children.clear()

    def manage(self, *words: str, **more: str) -> str:
        """What the management command prints, with `more` in its environment."""
        return execute([sys.executable, "manage.py", *words], {**self.environment, **more})

    def ready(self) -> bool:
        if not self.ready_path:
            return answers(self.port)
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{self.ready_path}", timeout=5) as response:
                return bool(response.status == 200)
        except HTTPError as error:
            error.close()
        except OSError:
            pass
        return False


@contextmanager
def running(system: System) -> Iterator[System]:
    """The system's processes, ready for events, until the block ends."""
    try:
        for name in system.commands:
            system.start(name)
        wait_for(system.ready, system.name)
        yield system
    finally:
        system.stop()


class Servers:
    """PostgreSQL, Redis protocol and the sink, shared by all systems: `with Servers(directory) as servers`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.postgres = Postgres(directory / "postgres")
        self.valkey = Valkey(directory / "valkey")
        self.sink_port = free_port()
        self._sink: Child | None = None
        self._broker_databases = cycle(range(3, 16))  # 1 is the chain's, 2 that of the bare limits

    @property
    def sink_url(self) -> str:
        return f"http://127.0.0.1:{self.sink_port}/"

    @property
    def sink_pid(self) -> int:
        assert self._sink is not None, "the sink is not running"
        return self._sink.pid

    def __enter__(self) -> Servers:
        try:
            self.postgres.start()
            self.valkey.start()
            command = [sys.executable, "-m", "benchmarks.sink", "--port", str(self.sink_port)]
            self._sink = spawn(command, log=self.directory / "sink.log")
            wait_for(lambda: answers(self.sink_port), "the sink")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._sink:
            kill(self._sink)
        self.valkey.stop()
        self.postgres.stop()

    @cached_property
    def _carillon_environment(self) -> dict[str, str]:
        """The settings that all Carillons share; the first use makes the database that they are cloned from."""
        settings = {
            "DATABASE_URL": self.postgres.create_database(TEMPLATE),
            "REDIS_URL": self.valkey.url,
            "CELERY_BROKER_URL": self.valkey.url,
            "DATA_DIR": str(self.directory),
            "SECRET_KEY": "benchmark",
            "SECRET_KEYS": Fernet.generate_key().decode(),
            "SINK_URL": self.sink_url,
            "OUTBOUND_ALLOW": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
            "DEBUG": "0",
        }
        files = sorted(map(str, CONFIGURATION.glob("*.yaml")))
        bootstrap = ["manage.py", "bootstrap", str(self._keys), "--apply", *files, "--source", "shop"]
        execute([sys.executable, *bootstrap], settings)
        return settings

    @property
    def _keys(self) -> Path:
        return self.directory / "carillon.env"

    def carillon(self, name: str) -> System:
        """Our own, as `make run` starts it, on a fresh database of that name."""
        settings = self._carillon_environment
        # Two that run at once must not take each other's bells.
        broker = f"{self.valkey.url.removesuffix('/0')}/{next(self._broker_databases)}"
        port = free_port()
        values = {"host": "127.0.0.1", "port": port, "web_processes": 1, "worker_processes": 2, "flower_port": 0}
        return System(
            f"carillon-{name}",
            self.directory,
            database=name,
            environment={
                **settings,
                "DATABASE_URL": self.postgres.create_database(name, template=TEMPLATE),
                "REDIS_URL": broker,
                "CELERY_BROKER_URL": broker,
            },
            commands={process: PROCESSES[process].argv(**values) for process in CARILLON},
            port=port,
            ready_path="/readyz",
            api_key=envfile.read(self._keys)["CARILLON_API_KEY"],
        )

    def chain(self) -> System:
        """The hand-rolled service: same server software, same worker processes."""
        port = free_port()
        broker = f"{self.valkey.url.removesuffix('/0')}/1"
        environment = {
            "DATABASE_URL": self.postgres.create_database("chain"),
            "REDIS_URL": broker,
            "CELERY_BROKER_URL": broker,  # Celery prefers it to any setting
            "SINK_URL": self.sink_url,
            "API_KEY": "benchmark",
            "DJANGO_SETTINGS_MODULE": "benchmarks.chain.settings",
        }
        execute([sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"], environment)
        python = [sys.executable, "-m"]
        commands = {
            "web": [
                *(*python, "granian", "--interface", "wsgi", "benchmarks.chain.wsgi:application"),
                *("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--blocking-threads", "16"),
            ],
            "worker": [
                *(*python, "celery", "-A", "benchmarks.chain.celery", "worker", "-c", "2", "-l", "WARNING"),
                *("--without-gossip", "--without-mingle"),
            ],
        }
        return System("chain", self.directory, "chain", environment, commands, port, api_key="benchmark")


def execute(command: list[str], environment: Mapping[str, str]) -> str:
    """What the command prints. SystemExit with everything it said when it fails."""
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """SystemExit when it takes longer."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} is not ready after {seconds:.0f} s")
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether somebody listens on that port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
