"""Calls that come at the same time, done as one: a leader does what has gathered while the one before it was at work.

Nobody waits for company. A call that comes alone is done at once, in its own thread; under load each round takes along
all that came meanwhile, as databases commit in groups. A round that hangs keeps nobody who is not in it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST: Final = 64  # calls in a round
PATIENCE: Final = 0.5  # seconds that a call waits for its round; then it is done alone


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Call(Generic[T, R]):
    """One call that waits. Its lock is released when it has results, or failed with others, or is to lead."""

    given: T
    woken: threading.Lock = field(default_factory=_held)
    results: list[R] = field(default_factory=list)  # one, when it is done
    failed: bool = False


class Together(Generic[T, R]):
    """`do` takes what calls gave and returns the result of each."""

    def __init__(self, do: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._do = do
        self._busy = False
        self._waiting: deque[_Call[T, R]] = deque()
        self._lock = threading.Lock()  # guards the two above

    def __call__(self, given: T) -> R:
        """The result for this one, whoever came by it. Where `do` raises for several, each is done alone."""
        call = _Call[T, R](given)
        with self._lock:
            leads, self._busy = not self._busy, True
            if not leads:
                self._waiting.append(call)
        if not leads:
            if self._waits_in_vain(call) or call.failed:
                return self._alone(call)
            if call.results:
                return call.results[0]
        return self._lead(call)

    def _waits_in_vain(self, call: _Call[T, R]) -> bool:
        """Wait until the call is done, or is to lead; True when no round took it in time."""
        if call.woken.acquire(timeout=PATIENCE):
            return False
        with self._lock:
            if call in self._waiting:
                self._waiting.remove(call)
                return True
        call.woken.acquire()
        return False

    def _alone(self, call: _Call[T, R]) -> R:
        return self._do([call.given])[0]

    def _lead(self, call: _Call[T, R]) -> R:
        with self._lock:
            others = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST - 1))]
        try:
            mine, *theirs = self._do([call.given, *(other.given for other in others)])
            for other, result in zip(others, theirs, strict=True):
                other.results.append(result)
        except Exception:
            if not others:
                raise
            return self._alone(call)
        else:
            return mine
        finally:
            for other in others:
                other.failed = not other.results
                other.woken.release()
            self._hand_over()

    def _hand_over(self) -> None:
        """The next who waits leads; when there is none, the next who comes."""
        with self._lock:
            if not self._waiting:
                self._busy = False
                return
            leader = self._waiting.popleft()
        leader.woken.release()
