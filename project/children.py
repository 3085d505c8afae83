"""Child processes that end with us: each leads its own process group, and on Linux our death is theirs."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

Child = subprocess.Popen[bytes]


def spawn(
    command: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    user: int | None = None,
    group: int | None = None,
    last_signal: signal.Signals = signal.SIGTERM,
) -> Child:
    """Start `command`; what it prints is appended to the file `log`.

    A new session keeps the terminal's Ctrl-C from it, so that its starter decides who stops first. When the starter is
    killed, Linux sends `last_signal`. Call it from a thread that lives as long as the child should: the kernel means
    the thread, not the process.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            start_new_session=True,
            preexec_fn=_dies_with_its_parent(last_signal),  # after setuid, which would undo it
        )


def stop(child: Child, *, first: signal.Signals = signal.SIGTERM, patience: float) -> bool:
    """Ask with `first`, wait `patience` seconds, then kill whatever is left of its group. True: it went by itself."""
    if child.poll() is None:
        child.send_signal(first)
    try:
        child.wait(patience)
        polite = True
    except subprocess.TimeoutExpired:
        polite = False
    kill(child)
    return polite


def kill(child: Child) -> None:
    """SIGKILL to its whole group; no error when it is gone already."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def last_lines(log: Path, count: int = 20) -> str:
    """The end of a log file, for the person who has to know why something died."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64 * 1024))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])


def _dies_with_its_parent(last_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec nothing may be imported or locked
    set_parent_death_signal = 1

    def ask_the_kernel() -> None:
        prctl(set_parent_death_signal, int(last_signal))

    return ask_the_kernel
