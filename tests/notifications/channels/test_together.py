"""Messages that come one by one go together, and each hears its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from notifications.channels.together import Together


class Far:
    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.free = asyncio.Event()

    async def post(self, entries: Sequence[int]) -> list[str | Exception]:
        self.calls.append(list(entries))
        await self.free.wait()
        if 13 in entries:
            raise OSError("the line is dead")
        return [ValueError(f"{entry} is odd") if entry % 2 else f"took {entry}" for entry in entries]


def outcomes(entries: Sequence[int], *, size: int = 1, **limits: Any) -> tuple[Far, list[Any]]:
    async def main() -> tuple[Far, list[Any]]:
        far = Far()
        together = Together(far.post, **{"calls": 1, "most": 4, "largest": 100, **limits})
        sending = [asyncio.ensure_future(together.send(entry, size)) for entry in entries]
        await asyncio.sleep(0.01)
        far.free.set()
        return far, await asyncio.gather(*sending, return_exceptions=True)

    return asyncio.run(main())


def test_what_waits_is_one_call_in_its_order_and_each_hears_of_itself() -> None:
    far, told = outcomes(range(6))
    assert far.calls == [[0], [1, 2, 3, 4], [5]] or far.calls == [[0, 1, 2, 3], [4, 5]]
    assert [str(each) for each in told] == ["took 0", "1 is odd", "took 2", "3 is odd", "took 4", "5 is odd"]


def test_a_call_is_no_larger_than_it_may_be() -> None:
    far, _ = outcomes(range(4), size=60)
    assert [len(call) for call in far.calls] == [1, 1, 1, 1]


def test_a_call_that_fails_fails_for_all_of_it_and_no_other() -> None:
    _, told = outcomes([12, 13, 14, 15, 16, 17], most=2)
    assert [type(each) for each in told].count(OSError) <= 2
    assert [str(each) for each in told[4:]] == ["took 16", "17 is odd"]


def test_as_many_calls_as_may_be_are_under_way() -> None:
    far, _ = outcomes(range(8), calls=2)
    assert sorted(entry for call in far.calls for entry in call) == list(range(8))
    assert len(far.calls) <= 4


def test_what_is_given_up_before_its_call_is_not_sent() -> None:
    async def main() -> list[list[int]]:
        far = Far()
        together = Together(far.post, calls=1, most=1, largest=100)
        first, second = (asyncio.ensure_future(together.send(entry, 1)) for entry in (2, 4))
        await asyncio.sleep(0.01)
        second.cancel()
        far.free.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        return far.calls

    assert asyncio.run(main()) == [[2]]
