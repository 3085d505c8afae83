"""How long a statement waits for a PostgreSQL whose host vanishes: prints the seconds and what was raised.

Run by `unshare --net`, which gives it a network of its own to take down. Its arguments are the path of the server's
socket, and what psycopg takes to connect, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

import psycopg

from tests.brokers.proxy import Proxy


class ToSocket(Proxy):
    """The way by TCP to a server that listens at a path."""

    def __init__(self, path: str) -> None:
        super().__init__(target=0)
        self._path = path

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self._path)


def main() -> None:
    path, options = sys.argv[1], json.loads(sys.argv[2])
    network("up")
    address = {"host": "127.0.0.1", "port": ToSocket(path).start().port}
    with psycopg.connect(**{**options, **address}, autocommit=True) as connection:
        connection.execute("SELECT 1")
        network("down")
        began = time.monotonic()
        try:
            connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            print(f"{time.monotonic() - began:.1f} {error}")


def network(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True, timeout=5)


if __name__ == "__main__":
    main()
