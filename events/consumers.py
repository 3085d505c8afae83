"""The consumers of a process: one for each source that consumes, started, stopped and changed as the sources are."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from events.catalogue import Hook, feeds
from events.consuming import PROCESS, Consumer, pause
from project.models import Heartbeat

log = structlog.get_logger(__name__)

LOOK_EVERY: Final = 2.0  # seconds between two looks for sources that are new, changed or gone
BEAT_EVERY: Final = 4.0
PATIENCE: Final = 12.0  # seconds that the end waits for batches under way


class Consumers:
    """`run` until `stop` is set. `names`: only these sources; none: all that consume from brokers."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self.names = frozenset(names)
        self.stop = asyncio.Event()
        self.process = f"{PROCESS}@{socket.gethostname()}/{os.getpid()}"
        self._running: dict[str, tuple[Consumer, asyncio.Task[None]]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="consumers")
        self._beat_at = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self.stop.is_set():
                try:
                    await self._adjust(await loop.run_in_executor(self._thread, self._wanted))
                    if time.monotonic() >= self._beat_at:
                        await loop.run_in_executor(self._thread, self._beat)
                except DatabaseError as error:  # who consumes goes on, and finds out by itself
                    log.info("no database, trying again", error=" ".join(str(error).split()))
                    await loop.run_in_executor(self._thread, lambda: connection.close())
                await pause(LOOK_EVERY, self.stop)
        finally:
            await self._end(list(self._running))
            await loop.run_in_executor(self._thread, self._say_goodbye)
            self._thread.shutdown(wait=False)

    async def _adjust(self, wanted: Mapping[str, Hook]) -> None:
        """Stop whose source is gone, disabled or changed, or who failed; start who is missing."""
        over = [
            name for name, (consumer, task) in self._running.items() if wanted.get(name) != consumer.feed or task.done()
        ]
        await self._end(over)
        for name, feed in wanted.items():
            if name not in self._running:
                consumer = Consumer(name, feed)
                self._running[name] = consumer, asyncio.create_task(consumer.run(), name=f"consume {name}")
                self._beat_at = 0.0

    async def _end(self, names: Collection[str]) -> None:
        ending = [(name, *self._running.pop(name)) for name in names]
        for _, consumer, _ in ending:
            consumer.stop.set()
        if not ending:
            return
        _, late = await asyncio.wait([task for _, _, task in ending], timeout=PATIENCE)
        for task in late:
            task.cancel()
        for name, _, task in ending:
            if task.done() and not task.cancelled() and (error := task.exception()):
                log.error("consumer failed, starting again", source=name, exc_info=error)
            else:
                log.info("stopped consuming", source=name)

    def _wanted(self) -> dict[str, Hook]:
        close_old_connections()
        return {name: feed for name, feed in feeds().items() if not self.names or name in self.names}

    def _beat(self) -> None:
        told: dict[str, Any] = {name: consumer.status.told() for name, (consumer, _) in self._running.items()}
        Heartbeat.beat(self.process, sources=told)
        self._beat_at = time.monotonic() + BEAT_EVERY

    def _say_goodbye(self) -> None:
        try:
            Heartbeat.objects.filter(process=self.process).delete()
        except DatabaseError as error:
            log.info("no goodbye", error=" ".join(str(error).split()))
        connection.close()
