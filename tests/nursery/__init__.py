"""Processes of Carillon that start in a third of the time: forked from one that has imported other people's libraries.

A test run starts hundreds of them, and importing was two fifths of its time. Each is a process as `exec` makes one:
session, environment, arguments, output, settings and Carillon's modules are its own. `/proc/PID/cmdline` alone differs.
Where it is not Linux, they are made by `exec`.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from project import children

FORKS: Final = sys.platform == "linux"  # nobody else has pidfd_open and prctl


class Forked(subprocess.Popen[bytes]):
    """A child of the nursery. Popen's own beginning, which would start something, is left out."""

    def __init__(self, command: Sequence[str], pid: int, told: socket.socket) -> None:
        self.args, self.pid, self.returncode = command, pid, None
        self._told = told

    def poll(self) -> int | None:
        return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        if (status := self._status(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def _status(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], seconds)[0]:
            with self._told:
                self.returncode = int(self._told.recv(16) or -signal.SIGKILL)  # nothing: the nursery itself was killed
        return self.returncode


class Nursery:
    """The one parent of a test run. When the test run ends, so does it, and all its children with it."""

    def __init__(self) -> None:
        if not FORKS:
            return
        self._wishes, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, str(Path(__file__).with_name("parent.py")), str(theirs.fileno())]
            self._parent = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    def spawn(self, command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """As project.children.spawn, of `python file …` or `python -m module …`."""
        if not FORKS:
            return children.spawn(command, log=log, env=env)
        with log.open("ab") as output:
            return self._fork(command, env, output, output)

    def run(
        self, command: Sequence[str], *, env: Mapping[str, str], check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """As subprocess.run, with what it printed."""
        if not FORKS:
            return subprocess.run(command, env=env, check=check, capture_output=True, text=True)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            status = self._fork(command, env, output, errors).wait()
            said, complained = _read(output), _read(errors)
        if check and status:
            failure = subprocess.CalledProcessError(status, command, said, complained)
            failure.add_note(complained)
            raise failure
        return subprocess.CompletedProcess(command, status, said, complained)

    def close(self) -> None:
        if FORKS:
            self._wishes.close()
            self._parent.wait()

    def _fork(self, command: Sequence[str], env: Mapping[str, str], *outputs: IO[bytes]) -> Forked:
        assert command[0] == sys.executable
        wish = json.dumps([[str(word) for word in command[1:]], dict(env)]).encode()
        told, theirs = socket.socketpair()
        with theirs:
            given = [*(output.fileno() for output in outputs), theirs.fileno()]
            socket.send_fds(self._wishes, [wish], given)
        return Forked(command, int(told.recv(16)), told)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
