"""A TCP proxy whose connections can be cut and counted: the way to a broker that tests cannot restart."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress

from project.embedded import free_port


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes everything on to `target`, another port there.

    `accepted` counts the connections that came through. With `tls`, it is spoken as far as here.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.target, self.port, self.accepted = target, free_port(), 0
        self._tls = tls
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()

    def start(self) -> Proxy:
        self._loop, self._listening = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        assert self._listening.wait(5)
        return self

    def stop(self) -> None:
        """Nobody is there any more, until it is started again at the same port."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def cut(self) -> int:
        """Drop every connection; returns how many sides there were."""
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(5)

    def refuse(self, refuses: bool = True) -> None:
        """From now on drop whoever connects, too; or no more."""
        self._refuses = refuses
        self.cut()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.target)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self._server = self._loop.run_until_complete(serving)
        self._listening.set()
        self._loop.run_forever()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        await self._cut()
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _cut(self) -> int:
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.transport.abort()
        return len(writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            there, back = await self.connect()
        except OSError:
            writer.transport.abort()
            return
        self.accepted += 1
        self._writers |= {writer, back}
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        self._writers -= {writer, back}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while content := await reader.read(65536):
                writer.write(content)
                await writer.drain()
        writer.close()
