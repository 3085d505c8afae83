"""What an error of another database means: in words, and for the next try."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import exc

from project.databases import Database
from workflows.foreign import ForeignError

# https://www.postgresql.org/docs/current/errcodes-appendix.html: connections, rollbacks (deadlock, serialization),
# resources, locks, interventions (shutdown, time limit), the system; and a server that only reads for now.
_PASSING_STATES: Final = ("08", "40", "53", "55", "57", "58", "25006")
# https://mariadb.com/kb/en/mariadb-error-codes/, https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
_PASSING_CODES: Final = frozenset(
    {1021, 1037, 1040, 1041, 1053, 1079, 1080, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1290, 1317, 1613, 1614}
    | {1836, 1927, 1969, 3024, 3058, 3101, 3572, *range(2000, 3000)}  # 2xxx: the client's, of the connection
)
# https://www.sqlite.org/rescode.html: BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL
_PASSING_RESULTS: Final = frozenset({5, 6, 7, 9, 10, 13, 14, 15})


@contextmanager
def told(database: Database) -> Iterator[None]:
    """Turn what SQLAlchemy raises into a ForeignError, which shows neither statements, parameters nor URLs."""
    try:
        yield
    except exc.DBAPIError as error:
        passing = error.connection_invalidated or _is_passing(database.dialect, error.orig)
        raise ForeignError(f"{database.name}: {_words(error.orig)}", permanent=not passing) from error
    except exc.TimeoutError as error:
        raise ForeignError(f"{database.name}: no connection became free", permanent=False) from error
    except exc.SQLAlchemyError as error:
        raise ForeignError(f"{database.name}: {type(error).__name__}: {error}", permanent=True) from error


def _is_passing(dialect: str, error: Any) -> bool:
    if dialect == "postgresql":
        # Without a state there was no server: psycopg itself failed to connect, or lost the connection.
        state = getattr(error, "sqlstate", None)
        return state.startswith(_PASSING_STATES) if state else type(error).__name__ == "OperationalError"
    if dialect == "mysql":
        code = error.args[0] if error.args else None
        return code in _PASSING_CODES or code == 0  # 0: PyMySQL's own, the connection is gone
    return getattr(error, "sqlite_errorcode", 1) & 0xFF in _PASSING_RESULTS


def _words(error: Any) -> str:
    """The database's own message in one line, with what it says to explain it."""
    said = getattr(error, "diag", None)
    if said is not None and said.message_primary:
        return "; ".join(text for text in (said.message_primary, said.message_detail, said.message_hint) if text)
    if len(error.args) == 2 and isinstance(error.args[0], int):  # PyMySQL
        return f"{error.args[1]} ({error.args[0]})"
    return " ".join(str(error).split()) or type(error).__name__
