"""Calls done together: each gets its own result or its own error, and nobody waits for one that hangs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from project import together
from project.together import Together


class Doing:
    """Doubles numbers, says which it was given together, and waits at those that somebody holds."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.held: dict[int, threading.Event] = {}

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.rounds.append(list(numbers))
        for number in numbers:
            if number in self.held:
                assert self.held[number].wait(20)
        if any(number < 0 for number in numbers):
            raise ValueError(f"negative: {numbers}")
        return [2 * number for number in numbers]

    def hold(self, number: int) -> Callable[[], None]:
        self.held[number] = threading.Event()
        return self.held[number].set


@pytest.fixture
def doing() -> Doing:
    return Doing()


def test_a_call_that_comes_alone_is_done_at_once_in_its_own_thread() -> None:
    calls = Together[int, threading.Thread](lambda numbers: [threading.current_thread() for _ in numbers])
    assert calls(1) is threading.current_thread()
    assert calls(2) is threading.current_thread()


def test_what_comes_while_one_is_done_is_done_together(doing: Doing) -> None:
    release = doing.hold(0)
    with ThreadPoolExecutor(10) as pool:
        futures = started(pool, Together(doing), doing, range(10))
        release()
        assert [future.result(20) for future in futures] == [2 * number for number in range(10)]
    assert [len(each) for each in doing.rounds] == [1, 9]


def test_who_fails_fails_alone(doing: Doing) -> None:
    release = doing.hold(0)
    with ThreadPoolExecutor(6) as pool:
        futures = started(pool, Together(doing), doing, [0, 1, 2, -3, 4, 5])
        release()
        assert [future.result(20) for future in futures if future is not futures[3]] == [0, 2, 4, 8, 10]
        with pytest.raises(ValueError, match=r"negative: \[-3\]"):
            futures[3].result(20)


def test_who_failed_with_others_keeps_nobody_while_it_is_done_alone(doing: Doing) -> None:
    first, alone = doing.hold(0), threading.Event()

    def do(numbers: Sequence[int]) -> list[int]:
        if list(numbers) == [-1]:
            assert alone.wait(20)
        return doing(numbers)

    with ThreadPoolExecutor(4) as pool:
        _, leader, *others = started(pool, Together(do), doing, [0, -1, 2, 3])
        first()
        assert [future.result(20) for future in others] == [4, 6]
        assert not leader.done()
        alone.set()
        with pytest.raises(ValueError, match="negative"):
            leader.result(20)


def test_a_round_that_hangs_keeps_nobody_who_is_not_in_it(doing: Doing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "PATIENCE", 0.05)
    release = doing.hold(0)
    with ThreadPoolExecutor(4) as pool:
        calls = Together(doing)
        hanging, *others = started(pool, calls, doing, [0, 1, 2, 3])
        assert [future.result(20) for future in others] == [2, 4, 6]
        assert not hanging.done()
        monkeypatch.setattr(together, "PATIENCE", 0.0)
        monkeypatch.setattr(calls, "_waits_in_vain", None)  # who comes now does not even try
        assert pool.submit(calls, 4).result(20) == 8
        release()
        assert hanging.result(20) == 0


def test_nobody_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "PATIENCE", 0.002)
    monkeypatch.setattr(together, "MOST", 5)

    def do(numbers: Sequence[int]) -> list[int]:
        time.sleep(random.random() / 1000)
        if any(number % 17 == 0 for number in numbers):
            raise ValueError
        return [2 * number for number in numbers]

    calls = Together(do)

    def one(number: int) -> int:
        try:
            return calls(number)
        except ValueError:
            return -1

    with ThreadPoolExecutor(32) as pool:
        done = list(pool.map(one, range(3000), timeout=60))
    assert done == [-1 if number % 17 == 0 else 2 * number for number in range(3000)]


def started(
    pool: ThreadPoolExecutor, calls: Together[int, int], doing: Doing, numbers: Sequence[int]
) -> list[Future[int]]:
    """The calls in this order, of which the first is being done and the others wait."""
    futures = [pool.submit(calls, numbers[0])]
    while not doing.rounds:
        time.sleep(0.001)
    for place, number in enumerate(numbers[1:], 1):
        futures.append(pool.submit(calls, number))
        while len(calls._waiting) < place and not futures[-1].done() and len(doing.rounds) == 1:
            time.sleep(0.001)
    return futures
