"""What goes out goes by this: one HTTP session, and whatever else wants to be kept open, shared by a process."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol, TypeVar

import aiohttp
import structlog

from project.http import guarded_session

log = structlog.get_logger(__name__)


class Closable(Protocol):
    def close(self) -> Awaitable[None] | None: ...


R = TypeVar("R", bound=Closable)


class Transport:
    """Made and used inside a pump's event loop."""

    def __init__(self) -> None:
        self._http: aiohttp.ClientSession | None = None
        self._kept: dict[Hashable, Any] = {}

    @property
    def http(self) -> aiohttp.ClientSession:
        """The session that refuses inner addresses; for `project.http.send`.

        It has no time limit: every attempt has its own, by its channel or step, which may be longer than any here.
        """
        if self._http is None:
            self._http = guarded_session(time_limit=0)
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
            try:
                closing = kept.close()
                if inspect.isawaitable(closing):
                    await closing
            except Exception as error:  # a client's own trouble with its end must not keep the others open
                log.info("not closed in order", kept=type(kept).__name__, error=type(error).__name__)
