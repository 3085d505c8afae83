"""A link: one connection to a far side, shared by many who send at the same time, and made anew when it broke."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

C = TypeVar("C")  # the client's connection
T = TypeVar("T")

IDLE: Final = 300.0  # seconds without use after which the connection is closed
GOODBYE: Final = 2.0  # seconds that closing one may take


class LinkBroken(ConnectionError):
    """The connection broke while something was under way on it: nobody knows whether that arrived."""


@dataclass(frozen=True)
class _Line(Generic[C]):
    connection: C
    gone: asyncio.Future[None]  # done as soon as it is known to be lost


class Link(ABC, Generic[C]):
    """Subclasses say how to connect, and whether a connection still serves.

    Made and used inside one event loop. Whoever gives up waiting (its task is cancelled) disturbs neither the
    connection nor the others.
    """

    def __init__(self) -> None:
        self._opening: asyncio.Task[_Line[C]] | None = None
        self._users = 0
        self._idling: asyncio.TimerHandle | None = None

    @abstractmethod
    async def connect(self, lost: Callable[[], None]) -> C:
        """A new connection. `lost` may be called as soon as it is seen to be broken: then nobody waits for it in vain.

        What it raises goes to everybody who waits. It must leave nothing open then, nor when it is cancelled.
        """

    @abstractmethod
    async def disconnect(self, connection: C) -> None:
        """Close it, whatever state it is in."""

    def serves(self, connection: C) -> bool:
        """Whether it can still be used, as far as it knows itself."""
        return True

    async def use(self, work: Callable[[C], Coroutine[Any, Any, T]]) -> T:
        """What `work(connection)` returns or raises. Raises LinkBroken when the connection is lost meanwhile."""
        self._users += 1
        if self._idling is not None:
            self._idling.cancel()
            self._idling = None
        try:
            return await _on(await self._line(), work)
        finally:
            self._users -= 1
            if not self._users:
                self._idling = asyncio.get_running_loop().call_later(IDLE, self.drop)

    def drop(self) -> None:
        """Close the connection; the next `use` makes a new one. What is under way on it fails with LinkBroken."""
        opening, self._opening = self._opening, None
        if opening is not None:
            ending = asyncio.ensure_future(self._end(opening))
            _ending.add(ending)
            ending.add_done_callback(_ending.discard)

    async def close(self) -> None:
        """The end."""
        opening, self._opening = self._opening, None
        if self._idling is not None:
            self._idling.cancel()
        if opening is not None:
            await self._end(opening)

    async def _line(self) -> _Line[C]:
        if self._opening is not None and self._opening.done() and not self._is_well(self._opening):
            self.drop()
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(_heard)
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Line[C]:
        gone = asyncio.get_running_loop().create_future()
        return _Line(await self.connect(lambda: _lose(gone)), gone)

    def _is_well(self, opening: asyncio.Task[_Line[C]]) -> bool:
        if opening.cancelled() or opening.exception() is not None:
            return False
        line = opening.result()
        return not line.gone.done() and self.serves(line.connection)

    async def _end(self, opening: asyncio.Task[_Line[C]]) -> None:
        opening.cancel()
        with suppress(BaseException):  # a client may raise anything about a connection that is broken already
            line = await opening
            _lose(line.gone)
            async with asyncio.timeout(GOODBYE):
                await self.disconnect(line.connection)


async def _on(line: _Line[C], work: Callable[[C], Coroutine[Any, Any, T]]) -> T:
    working = asyncio.ensure_future(work(line.connection))
    try:
        await asyncio.wait((working, line.gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not working.done():
            working.cancel()
            working.add_done_callback(_heard)
    if working.done() and not working.cancelled():  # clients cancel what waits when their connection is lost
        return working.result()
    raise LinkBroken("the connection was lost before the broker had confirmed")


def _lose(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)


def _heard(task: asyncio.Future[Any]) -> None:
    """Look at what came of it, so that asyncio does not complain that nobody did."""
    if not task.cancelled():
        task.exception()


_ending: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly
