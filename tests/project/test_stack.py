"""`make run`: one command, everything up, everything down, and clear words when it cannot."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from project import envfile
from project.embedded import free_port
from project.supervisor import Supervisor
from tests import servers
from tests.live import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Run:
    """A `make run` in a directory and on ports of its own."""

    def __init__(self, directory: Path, **variables: str) -> None:
        self.directory = directory
        self.output = directory.with_suffix(".out")
        ports = {name: str(free_port()) for name in ("PORT", "FLOWER_PORT", "INBOX_SMTP_PORT")}
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "project.stack"],
                cwd=ROOT,
                env={**clean, "DATA_DIR": str(directory), **ports, **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> None:
        """Until the block with the URLs is printed."""

        def ready() -> bool:
            assert self.process.poll() is None, self.told
            return "Ctrl-C stops everything" in self.told

        wait_until(ready, seconds=200, what="the start")

    @property
    def told(self) -> str:
        return self.output.read_text()

    @property
    def values(self) -> dict[str, str]:
        return envfile.read(self.directory / "carillon.env")

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def a_run(name: str, **variables: str) -> Iterator[Run]:
    run = Run(servers.directory / name, **variables)
    try:
        yield run
    finally:
        run.process.send_signal(signal.SIGTERM)
        run.process.wait(30)


@pytest.mark.flow
@pytest.mark.timeout(600)
def test_everything_starts_works_stops_and_finds_its_data_again() -> None:
    with a_run("stack") as run:
        run.wait_ready()
        values = run.values
        for word in ("CARILLON_URL", "CARILLON_API_KEY", "CARILLON_ADMIN_PASSWORD", "FLOWER_URL", "INBOX_URL"):
            assert values[word] in run.told
        assert stat.S_IMODE((run.directory / "carillon.env").stat().st_mode) == 0o600
        assert "id" in _follow_the_curl_line(run.told)

        (clock,) = (process for process in run.descendants() if process.cmdline()[-1:] == ["clock"])
        clock.kill()
        wait_until(lambda: "clock ended (SIGKILL) and starts again in 1 s" in run.told, what="word of the death")

        started = run.descendants()
        began = time.monotonic()
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(30) == 0
        assert time.monotonic() - began < 10
        assert not [process for process in started if _runs(process)]

    with a_run("stack") as again:
        again.wait_ready()
        for word in ("CARILLON_API_KEY", "CARILLON_ADMIN_PASSWORD", "SECRET_KEY", "SECRET_KEYS"):
            assert again.values[word] == values[word]
        events = Request(
            f"{again.values['CARILLON_URL']}/api/v1/events?type=order.paid",
            headers={"Authorization": f"Bearer {values['CARILLON_API_KEY']}"},
        )
        with urlopen(events, timeout=10) as answer:
            assert b"A-1001" in answer.read()

        if sys.platform == "linux":
            started = again.descendants()
            again.process.kill()
            wait_until(lambda: not any(map(_runs, started)), seconds=30, what="the end of a killed stack's processes")


@pytest.mark.parametrize("name", ["PORT", "FLOWER_PORT", "INBOX_SMTP_PORT"])
def test_a_taken_port_is_told_with_the_variable_to_set(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with a_run("taken", **{name: str(port)}) as run:
            assert run.process.wait(60) == 2
    assert f"port {port} cannot be used" in run.told
    assert f"Set {name} to another one" in run.told


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_is_refused(value: str) -> None:
    with a_run("none", PORT=value) as run:
        assert run.process.wait(60) == 2
    assert f"PORT is {value!r}; it has to be a number from 1 to 65535" in run.told


def test_who_dies_is_told_about_and_started_again_with_growing_patience(tmp_path: Path) -> None:
    told: list[str] = []
    supervisor = Supervisor(tmp_path, told.append, stops_first="web")
    supervisor.start("web", ["sh", "-c", "echo out of paper; exit 3"], {})

    def deaths(count: int) -> bool:
        supervisor.look_after()
        return len(told) == count

    wait_until(lambda: deaths(1))
    assert "web ended (exit status 3) and starts again in 1 s" in told[0]
    assert told[0].endswith("\n    out of paper")
    wait_until(lambda: deaths(2))
    assert "starts again in 2 s" in told[1]
    supervisor.stop()


def test_who_will_not_stop_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.supervisor.STOP_SECONDS", 0.3)
    supervisor = Supervisor(tmp_path, print, stops_first="web")
    supervisor.start("deaf", ["sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"], {})
    log = tmp_path / "deaf.log"
    grandchild = int(wait_until(lambda: log.exists() and log.read_text().strip()))
    supervisor.stop()
    wait_until(lambda: not psutil.pid_exists(grandchild) or not _runs(psutil.Process(grandchild)))


def _follow_the_curl_line(told: str) -> str:
    command = told[told.index("curl ") :].split("\n\n")[0]
    return subprocess.run(["sh", "-c", f"{command} --fail"], check=True, capture_output=True, text=True).stdout


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
