"""How long a statement waits for a PostgreSQL whose host vanishes: prints the seconds and what was raised.

Run by `unshare --net`, which gives it a network of its own to take down. Its arguments are the path of the server's
socket, and what psycopg takes to connect, as JSON.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from threading import Thread

import psycopg


def main() -> None:
    path, options = sys.argv[1], json.loads(sys.argv[2])
    network("up")
    listener = socket.create_server(("127.0.0.1", 0))
    Thread(target=serve, args=(listener, path), daemon=True).start()
    address = {"host": "127.0.0.1", "port": listener.getsockname()[1]}
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


def serve(listener: socket.socket, path: str) -> None:
    """Pass the first connection on to the socket."""
    client, _ = listener.accept()
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    Thread(target=pass_on, args=(client, server), daemon=True).start()
    pass_on(server, client)


def pass_on(source: socket.socket, target: socket.socket) -> None:
    while content := source.recv(65536):
        target.sendall(content)


if __name__ == "__main__":
    main()
