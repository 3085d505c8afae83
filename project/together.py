"""Calls that come at the same time, done as one: a leader does what has gathered while the one before it was at work.

Nobody waits for company. A call that comes alone is done at once, in its own thread; under load each round takes along
all that came meanwhile, as databases commit in groups. Of a round that hangs, only who is in it waits for its end.
"""

from __future__ import annotations

import threading
import time
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
        self._lock = threading.Lock()  # guards what follows
        self._waiting: deque[_Call[T, R]] = deque()
        self._since: float | None = None  # when the round under way began; None: nobody leads

    def __call__(self, given: T) -> R:
        """The result for this one, whoever came by it. Where `do` raises for several, each is done alone."""
        call = _Call[T, R](given)
        now = time.monotonic()
        with self._lock:
            since = self._since
            if since is None:
                self._since = now
            elif now - since <= PATIENCE:
                self._waiting.append(call)
        if since is None:
            return self._lead(call)
        if now - since > PATIENCE or self._waits_in_vain(call) or call.failed:
            return self._alone(call)
        return call.results[0] if call.results else self._lead(call)

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
        except Exception:  # whatever it is: of several, only one may be at fault
            if not others:
                raise
        else:
            return mine
        finally:  # nobody waits for what is done alone
            for other in others:
                other.failed = not other.results
                other.woken.release()
            self._hand_over()
        return self._alone(call)

    def _hand_over(self) -> None:
        """The next who waits leads; when there is none, the next who comes."""
        with self._lock:
            leader = self._waiting.popleft() if self._waiting else None
            self._since = time.monotonic() if leader else None
        if leader:
            leader.woken.release()
