"""A time limit for code that is not ours, in a process that may die of it."""

from __future__ import annotations

import faulthandler
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

AGAIN: Final = 1.0  # seconds between two reminders for code that swallows the first
GRACE: Final = 3.0  # seconds that code has for coming to its end when its time is over, before the process is ended


class OutOfTime(BaseException):
    """The time is over. Not an Exception, so that code which catches those lets it pass."""


def within(seconds: float, do: Callable[[], T], *, fatal: bool) -> T:
    """What `do` returns; raises OutOfTime in it when it takes longer. Only in the main thread of a process.

    Code that swallows OutOfTime is reminded every second. `fatal`: three seconds after the limit the process ends
    (status 1, with the traceback of where it was in its standard error): also when a call in C holds the interpreter,
    where no Python code can run, because the one who ends it is a thread without Python.
    """
    over = False

    def remind(number: int, frame: Any) -> None:
        if not over:
            raise OutOfTime

    started, (left, every) = time.monotonic(), signal.getitimer(signal.ITIMER_REAL)
    handler = signal.signal(signal.SIGALRM, remind)
    if fatal:
        # Celery replaces sys.stderr by something that is no file.
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=sys.__stderr__ or 2)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
            return do()
        finally:
            over = True  # a reminder that comes between here and the end says nothing any more
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if fatal:
            faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
        if left:  # somebody else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - started)), every)
