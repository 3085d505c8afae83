"""What goes out goes by this: one HTTP session, and whatever else wants to be kept open, shared by a process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import aiohttp

from project.http import guarded_session


class Closable(Protocol):
    def close(self) -> None: ...


R = TypeVar("R", bound=Closable)


class Transport:
    """Made and used inside a pump's event loop."""

    def __init__(self) -> None:
        self._http: aiohttp.ClientSession | None = None
        self._kept: dict[Hashable, Any] = {}

    @property
    def http(self) -> aiohttp.ClientSession:
        """The session that refuses inner addresses; for `project.http.send`."""
        if self._http is None:
            self._http = guarded_session()
        return self._http

    def keep(self, key: Hashable, make: Callable[[], R]) -> R:
        """What `make` made when this key was first asked for: a pool, a client. Its `close` is called at the end."""
        if key not in self._kept:
            self._kept[key] = make()
        kept: R = self._kept[key]
        return kept

    async def close(self) -> None:
        """Close everything; what is still being sent fails."""
        if self._http is not None:
            await self._http.close()
        for kept in self._kept.values():
            kept.close()
