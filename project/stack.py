"""`make run`: a whole Carillon on this machine, on servers of its own, stopped as one."""

import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import environ
from cryptography.fernet import Fernet

from project import envfile
from project.celerybroker import Kind, kind
from project.children import kill, last_lines, spawn
from project.embedded import Postgres, ServerError, Valkey
from project.processes import PROCESSES
from project.supervisor import Supervisor

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
PORTS = {"PORT": 8000, "FLOWER_PORT": 5555, "INBOX_SMTP_PORT": 1025}
BOOTSTRAP_SECONDS = 300
READY_SECONDS = 60


class CannotStart(Exception):
    """Something on this machine is in the way; the message says what to do about it."""


class FailedToStart(Exception):
    """A part of the stack did not come up; the message ends with what it said."""


class Stopped(Exception):
    """SIGINT, SIGTERM or SIGHUP came."""


@dataclass(frozen=True)
class Wishes:
    """What the environment and `.env` say about this run."""

    data: Path
    ports: Mapping[str, int]
    workers: int
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.ports['PORT']}"

    @property
    def file(self) -> Path:
        return self.data / "carillon.env"


def main() -> int:
    """Run until told to stop. Exit status: 0 stopped, 1 something did not come up, 2 cannot start here."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop_by_signal)
    try:
        wishes = read_wishes()
        check_ports(wishes.ports)
        with data_directory(wishes.data), ExitStack() as running:
            run(wishes, running)
    except CannotStart as error:
        say(f"Carillon cannot start: {error}")
        return 2
    except (FailedToStart, ServerError) as error:
        say(f"Carillon did not start: {error}")
        return 1
    except Stopped:
        say("Everything has stopped.")
    return 0


def run(wishes: Wishes, running: ExitStack) -> None:
    """Start everything, say where it is and look after it; what stands on `running` is stopped in reverse order."""
    began = time.monotonic()
    servers = start_servers(wishes, running)
    values = remember(wishes, servers)
    supervisor = Supervisor(wishes.data / "logs", say, stops_first="web")
    running.callback(supervisor.stop)
    flower = ["flower"] if values["FLOWER_URL"] else []
    start_processes(wishes, values, supervisor, ["web", "inbox", *flower])  # they need no tables before they are asked
    bootstrap(wishes, values)
    start_processes(wishes, values, supervisor, ["worker", "performer", "sender", "consumer", "clock"])
    wait_until_ready(wishes, supervisor)
    values = envfile.read(wishes.file)
    say(welcome(wishes, values, seconds=time.monotonic() - began))
    while True:
        supervisor.look_after()
        time.sleep(0.2)


def read_wishes() -> Wishes:
    """Besides settings.py the one reader of the environment: it makes what settings.py requires."""
    environ.Env.read_env(ROOT / ".env")
    return Wishes(
        data=Path(os.environ.get("DATA_DIR") or ROOT / ".data").resolve(),
        ports={name: _number(name, default, most=65535) for name, default in PORTS.items()},
        workers=_number("WORKERS", 1, most=64),
        environment=dict(os.environ),
    )


def check_ports(ports: Mapping[str, int]) -> None:
    """Raise CannotStart naming every variable whose port cannot be had."""
    troubles = []
    with ExitStack() as held:
        for name, port in ports.items():
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run may linger
            try:
                probe.bind((HOST, port))
            except OSError as error:
                troubles.append(f"port {port} cannot be used ({error.strerror}). Set {name} to another one.")
    if troubles:
        raise CannotStart("\n  ".join(["", *troubles]) if len(troubles) > 1 else troubles[0])


@contextmanager
def data_directory(path: Path) -> Iterator[None]:
    """Make it, and keep a second stack out of it."""
    (path / "logs").mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStart(
                f"another `make run` is using {path}. Stop it, or set DATA_DIR to another directory."
            ) from error
        yield


def start_servers(wishes: Wishes, running: ExitStack) -> dict[str, str]:
    """DATABASE_URL and REDIS_URL, of the given servers or of our own. With another broker there may be no Redis."""
    urls = {name: wishes.environment.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}
    if not urls["DATABASE_URL"]:
        urls["DATABASE_URL"] = running.enter_context(Postgres(wishes.data / "postgres")).create_database()
    if not urls["REDIS_URL"] and not wishes.environment.get("CELERY_BROKER_URL"):
        urls["REDIS_URL"] = running.enter_context(Valkey(wishes.data / "valkey")).url
    return urls


def remember(wishes: Wishes, servers: Mapping[str, str]) -> dict[str, str]:
    """Write carillon.env: this run's addresses, and secrets that are made once. Given variables win over both."""
    kept = envfile.read(wishes.file)
    given = wishes.environment
    made_once = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "SECRET_KEYS": Fernet.generate_key().decode(),
        # of the examples' webhook sources
        "GITHUB_WEBHOOK_SECRET": secrets.token_urlsafe(24),
        "ALERTMANAGER_TOKEN": secrets.token_urlsafe(24),
    }
    broker = given.get("CELERY_BROKER_URL") or servers["REDIS_URL"]
    smtp_port = wishes.ports["INBOX_SMTP_PORT"]
    values = {
        "CARILLON_URL": wishes.url,
        # SQS carries nothing that Flower could show.
        "FLOWER_URL": "" if kind(broker) == Kind.SQS else f"http://{HOST}:{wishes.ports['FLOWER_PORT']}",
        "INBOX_URL": f"{wishes.url}/inbox/",
        "INBOX_SLACK_URL": f"{wishes.url}/inbox/slack",
        "INBOX_SMTP_PORT": str(smtp_port),
        **servers,
        "CELERY_BROKER_URL": broker,
        "EMAIL_URL": given.get("EMAIL_URL") or f"smtp://{HOST}:{smtp_port}",
        "OUTBOUND_ALLOW": ",".join(filter(None, [given.get("OUTBOUND_ALLOW"), f"{HOST}:{wishes.ports['PORT']}"])),
        "DEBUG": "1",
        "LOG_FORMAT": given.get("LOG_FORMAT") or "console",
        **{name: given.get(name) or kept.get(name) or fresh for name, fresh in made_once.items()},
        # `bootstrap` makes these
        **{name: kept[name] for name in kept if name.startswith("CARILLON_ADMIN_") or name == "CARILLON_API_KEY"},
    }
    envfile.write(wishes.file, values)
    return values


def bootstrap(wishes: Wishes, values: Mapping[str, str]) -> None:
    """Tables, the example pack, the administrator and the API key, in one process of Django."""
    log = wishes.data / "logs" / "bootstrap.log"
    log.unlink(missing_ok=True)
    child = spawn(
        [sys.executable, "manage.py", "bootstrap", str(wishes.file), "--apply", "examples/"],
        log=log,
        env={**wishes.environment, **values, "CARILLON_PROCESS": "migrate"},
    )
    try:
        status = child.wait(BOOTSTRAP_SECONDS)
    finally:
        kill(child)
    if status:
        raise FailedToStart(f"preparing the database failed. The end of {log}:\n{last_lines(log)}")


def start_processes(wishes: Wishes, values: Mapping[str, str], supervisor: Supervisor, names: Sequence[str]) -> None:
    """One process of each kind that is named."""
    for process in map(PROCESSES.__getitem__, names):
        command = process.argv(
            host=HOST,
            port=wishes.ports["PORT"],
            flower_port=wishes.ports["FLOWER_PORT"],
            inbox_smtp_port=wishes.ports["INBOX_SMTP_PORT"],
            web_processes=wishes.workers,
            worker_processes=wishes.workers + 1,
        )
        # With DEBUG Django remembers the last 9,000 queries: right for a page, wrong for a worker.
        debug = {"DEBUG": "1" if process.name == "web" else "0"}
        supervisor.start(process.name, command, {**wishes.environment, **values, **debug, **process.variables})


def wait_until_ready(wishes: Wishes, supervisor: Supervisor) -> None:
    """Until /readyz says that all parts are there; FailedToStart with its answer after READY_SECONDS."""
    deadline = time.monotonic() + READY_SECONDS
    answer = ""
    while time.monotonic() < deadline:
        supervisor.look_after()
        ready, answer = _readiness(wishes.url)
        if ready:
            return
        time.sleep(0.2)
    raise FailedToStart(f"it is not ready after {READY_SECONDS} s: {answer}\nThe logs are in {wishes.data / 'logs'}.")


def welcome(wishes: Wishes, values: Mapping[str, str], *, seconds: float) -> str:
    """The block that ends the start-up: where everything is, who may enter, and a first event to send."""
    event = {"type": "order.paid", "data": {"order_id": "A-1001", "amount": 120.5, "customer": "Ada"}}
    rule = "─" * 100
    return f"""
{rule}
  Carillon is ready ({seconds:.1f} s).

    Admin     {wishes.url}/admin/
              {values["CARILLON_ADMIN_USER"]} / {values["CARILLON_ADMIN_PASSWORD"]}
    API       {wishes.url}/api/docs
              key {values["CARILLON_API_KEY"]}
    Flower    {_flower(values)}
    Inbox     {values["INBOX_URL"]}   mail and chat that Carillon sends
    Logs      {wishes.data / "logs"}
    Settings  {wishes.file}   commands in a second terminal find this stack through it

  Send the first event:

curl -sS {wishes.url}/api/v1/events \\
  -H 'Authorization: Bearer {values["CARILLON_API_KEY"]}' \\
  -H 'Content-Type: application/json' \\
  -d '{json.dumps(event)}'

  Or all the examples: make demo (in a second terminal). Ctrl-C stops everything.
{rule}
"""


def _flower(values: Mapping[str, str]) -> str:
    url = values["FLOWER_URL"]
    return f"{url}   with the admin's login" if url else "is not started: it can see nothing on SQS"


def say(text: str) -> None:
    print(text, flush=True)


def _readiness(url: str) -> tuple[bool, str]:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return True, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return False, error.read().decode(errors="replace")[:1000]
    except OSError as error:
        return False, str(error)


def _number(name: str, default: int, *, most: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise CannotStart(f"{name} is {text!r}; it has to be a number from 1 to {most}.")
    return int(text)


def _stop_by_signal(number: int, frame: object) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # stopping takes seconds, and is not to be interrupted
    say(f"\n{signal.Signals(number).name}: stopping …")
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
