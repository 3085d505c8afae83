"""Other databases for tests: a new PostgreSQL database, MariaDB's when this machine has one, a file of SQLite."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, exc, text

from tests import servers

MARIADB = os.environ.get("TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306/")
KINDS = ("postgresql", "mariadb", "sqlite")

_numbers = itertools.count(1)


@contextmanager
def empty_database(kind: str, directory: Path) -> Iterator[str]:
    """The URL of a database without tables, which is there as long as the context. Skips the test without a server."""
    name = f"carillon_tests_{os.getpid()}_{next(_numbers)}"
    if kind == "postgresql":
        yield servers.postgres.create_database(name)
        servers.postgres.drop_database(name)
    elif kind == "mariadb":
        server = create_engine(MARIADB, connect_args={"connect_timeout": 2})
        try:
            with server.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
        except exc.OperationalError as error:
            pytest.skip(f"no MariaDB here: TEST_MARIADB_URL names one whose user may create databases ({error.orig})")
        yield server.url.set(database=name).render_as_string(hide_password=False)
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name}"))
        server.dispose()
    else:
        path = directory / "warehouse.db"
        path.touch()
        yield f"sqlite:///{path}"
