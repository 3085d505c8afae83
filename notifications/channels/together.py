"""Messages that come one by one and go together: whatever waits when a call can be made is one call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

E = TypeVar("E")  # what one message is in a call


@dataclass(slots=True)
class _Waiting(Generic[E]):
    entry: E
    size: int
    answer: asyncio.Future[str]


class Together(Generic[E]):
    """`post` sends the messages of one call, and tells of each what came back, or why it was not accepted.

    At most `most` messages and `largest` bytes are a call, and `calls` are under way at once. With one at a time
    messages arrive in the order in which they came.
    """

    def __init__(
        self,
        post: Callable[[Sequence[E]], Awaitable[Sequence[str | Exception]]],
        *,
        calls: int,
        most: int,
        largest: int,
    ) -> None:
        self._post, self._most, self._largest = post, most, largest
        self._free = calls
        self._waiting: deque[_Waiting[E]] = deque()
        self._calling: Final[set[asyncio.Task[None]]] = set()

    async def send(self, entry: E, size: int) -> str:
        """What came back. Raises what `post` told of this message, or raised for all of its call."""
        waiting = _Waiting(entry, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._free:
            self._free -= 1
            calling = asyncio.ensure_future(self._run())
            self._calling.add(calling)
            calling.add_done_callback(self._calling.discard)
        return await waiting.answer

    def stop(self) -> None:
        """Break off what is under way."""
        for calling in self._calling:
            calling.cancel()

    async def _run(self) -> None:
        try:
            while batch := list(self._batch()):
                await self._call(batch)
        finally:
            self._free += 1

    def _batch(self) -> Iterator[_Waiting[E]]:
        number, size = 0, 0
        while self._waiting and number < self._most:
            first = self._waiting[0]
            if not first.answer.done():  # else it was given up meanwhile
                number, size = number + 1, size + first.size
                if number > 1 and size > self._largest:
                    return
                yield first
            self._waiting.popleft()

    async def _call(self, batch: Sequence[_Waiting[E]]) -> None:
        told: Sequence[str | Exception]
        try:
            told = await self._post([each.entry for each in batch])
        except Exception as error:  # whatever a client raises is the outcome of each message
            told = [error] * len(batch)
        for each, what in zip(batch, told, strict=True):
            if each.answer.done():
                continue
            if isinstance(what, Exception):
                each.answer.set_exception(what)
            else:
                each.answer.set_result(what)
