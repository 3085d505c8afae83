"""One engine for each other database and process, with its limits on time."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings
from django.db import connection as own
from sqlalchemy import Connection, Engine, create_engine, event, text

from project.databases import Database
from workflows.foreign import ForeignError
from workflows.foreign.errors import told

CONNECT_SECONDS: Final = 5
LOCK_SECONDS: Final = 10
_SQLITE_STEPS: Final = 20_000  # of SQLite's machine, between two looks at the clock

_OWN: Final = (
    "{name} is Carillon's own database: nothing but Carillon may change its tables. "
    "For tables of yours that are in it, there are database.* and WORKFLOW_MODELS"
)

_engines: dict[Database, Engine] = {}
_of_the_parent: list[Engine] = []
_lock = threading.Lock()


def engine_of(database: Database) -> Engine:
    """The process's engine for the database, made at first use. Raises ForeignError, also when it is Carillon's own."""
    with _lock:
        engine = _engines.get(database)
        if engine is None:
            engine = _made(database)
            if database.dialect == "postgresql":
                try:
                    with told(database), engine.connect() as connection:
                        _refuse_own(database, connection)
                except BaseException:
                    engine.dispose()
                    raise
            _engines[database] = engine
        return engine


def limit(connection: Connection) -> None:
    """Give the transaction that has begun its limits; MySQL's sessions have theirs from the start."""
    seconds = settings.WORKFLOW_DATABASES_TIMEOUT
    if connection.dialect.name == "postgresql":
        # For this transaction only: behind a pooler the session may be somebody else's a moment later.
        limits = text("SELECT set_config('statement_timeout', :all, true), set_config('lock_timeout', :lock, true)")
        connection.execute(limits, {"all": f"{seconds}s", "lock": f"{LOCK_SECONDS}s"})
    elif connection.dialect.name == "sqlite":
        deadline = time.monotonic() + seconds
        driver: Any = connection.connection.dbapi_connection
        driver.set_progress_handler(lambda: time.monotonic() > deadline, _SQLITE_STEPS)


def _made(database: Database) -> Engine:
    seconds = settings.WORKFLOW_DATABASES_TIMEOUT
    arguments: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
    url = database.url
    if database.dialect == "postgresql":
        arguments["application_name"] = f"carillon-{settings.PROCESS}"
    elif database.dialect == "mysql":
        # The server's limit is for SELECT only (MySQL); a client that waits no longer is one for everything.
        arguments |= {"read_timeout": seconds + 5, "write_timeout": seconds + 5}
    else:
        arguments = {"timeout": LOCK_SECONDS}
        url = f"sqlite:///file:{quote(database.url)}?mode=rw&uri=true"  # a wrong path makes no new, empty database
    with told(database):
        engine = create_engine(
            url,
            connect_args=arguments,
            hide_parameters=True,
            pool_size=2,
            max_overflow=8,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,
            pool_recycle=1800,
        )
    if database.dialect == "mysql":
        event.listen(engine, "connect", _begin_mysql_session)
    return engine


def _begin_mysql_session(connection: Any, record: object) -> None:
    seconds = settings.WORKFLOW_DATABASES_TIMEOUT
    longest = (
        f"max_statement_time = {seconds}"
        if "MariaDB" in connection.get_server_info()
        else f"max_execution_time = {seconds * 1000}"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_SECONDS}, {longest}")


def _refuse_own(database: Database, connection: Connection) -> None:
    """Two URLs may lead to one database. Its number and the moment its server started tell."""
    question = "SELECT oid, pg_postmaster_start_time() FROM pg_database WHERE datname = current_database()"
    there = connection.execute(text(question)).one()
    with own.cursor() as cursor:
        cursor.execute(question)
        if cursor.fetchone() == tuple(there):
            raise ForeignError(_OWN.format(name=database.name), permanent=True)


def _forget() -> None:
    """In a child process: its parent's connections are the parent's. They are kept, for whoever lets go closes them."""
    global _lock
    _lock = threading.Lock()
    _of_the_parent.extend(_engines.values())
    _engines.clear()


os.register_at_fork(after_in_child=_forget)
