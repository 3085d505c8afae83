"""A consumer that runs beside a test, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from events import catalogue
from events.consuming import Consumer, hush_clients
from events.models import Source

T = TypeVar("T")


class Running:
    """`with Running(source) as consumer:` consumes until the end of the block."""

    def __init__(self, source: Source) -> None:
        self._feed = catalogue.hook(source)
        self._name = source.name
        self._ready = threading.Event()
        self.consumer: Consumer
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"running {source}", daemon=True)

    def __enter__(self) -> Consumer:
        self._thread.start()
        assert self._ready.wait(5)
        return self.consumer

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self.consumer.stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the consumer did not stop"

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        hush_clients()
        self.consumer = Consumer(self._name, self._feed)
        self._ready.set()
        await self.consumer.run()


def now(work: Coroutine[Any, Any, T]) -> T:
    """What it returns."""
    return asyncio.run(work)
