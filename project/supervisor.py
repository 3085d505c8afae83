"""Keeps processes running: whoever dies is told about and started again, with growing patience."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from project.children import Child, kill, last_lines, spawn

# The first group stops first, so that nothing new comes in; then everybody else at once.
FIRST_STOP_SECONDS = 2.0
STOP_SECONDS = 6.0
LONGEST_PAUSE = 30.0
LONG_LIFE = 60.0  # after so many seconds an end is no longer held against a process


@dataclass
class Kept:
    """A process as it is to be, and how it is doing."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    child: Child | None = None
    started_at: float = 0.0
    deaths: int = 0
    start_at: float = 0.0

    def start(self) -> None:
        self.child = spawn(self.command, log=self.log, env=self.environment)
        self.started_at = time.monotonic()


class Supervisor:
    """Use from one thread that lives as long as the processes should."""

    def __init__(self, logs: Path, tell: Callable[[str], None], *, stops_first: str) -> None:
        """Each process writes to `logs/<name>.log` (the last run is in `.log.1`); `tell` gets news for a person."""
        self.logs = logs
        self.tell = tell
        self.stops_first = stops_first
        self.processes: list[Kept] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        process = Kept(name, command, environment, self.fresh_log(name))
        self.processes.append(process)
        process.start()

    def fresh_log(self, name: str) -> Path:
        """The path of an empty log; the old one is kept beside it."""
        log = self.logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        return log

    def look_after(self) -> None:
        """Tell about the dead and start those whose pause is over. Call it a few times a second."""
        now = time.monotonic()
        for process in self.processes:
            if process.child is None:
                if now >= process.start_at:
                    process.start()
            elif process.child.poll() is not None:
                self._bury(process, now)

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to who is still there after its time."""
        children = {process.name: process.child for process in self.processes if process.child is not None}
        first = children.pop(self.stops_first, None)
        _stop([first] if first else [], FIRST_STOP_SECONDS)
        _stop(list(children.values()), STOP_SECONDS)
        self.processes.clear()

    def _bury(self, process: Kept, now: float) -> None:
        assert process.child is not None
        kill(process.child)  # what it left of its group
        process.deaths = 1 if now - process.started_at > LONG_LIFE else process.deaths + 1
        pause = min(2.0 ** (process.deaths - 1), LONGEST_PAUSE)
        process.start_at = now + pause
        end = "".join(f"\n    {line}" for line in last_lines(process.log, 10).splitlines())
        self.tell(
            f"{process.name} ended ({_how(process.child.returncode)}) and starts again in {pause:.0f} s. "
            f"The end of {process.log}:{end or ' (empty)'}"
        )
        process.child = None


def _stop(children: Sequence[Child], patience: float) -> None:
    deadline = time.monotonic() + patience
    for child in children:
        if child.poll() is None:
            child.terminate()
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in children:
        kill(child)


def _how(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
