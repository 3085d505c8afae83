"""Other databases that workflows may write: what the setting WORKFLOW_DATABASES says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

DIALECTS: Final = {"postgresql": "psycopg", "mysql": "pymysql", "sqlite": ""}
"""Kinds of databases, and the driver that is used for each: time-outs and errors differ between drivers."""

_OTHER_NAMES: Final = {"postgres": "postgresql", "mariadb": "mysql"}
_ENTRY: Final = re.compile(r"([a-z][a-z0-9_-]{0,62})=([a-z0-9]+)(?:\+([a-z0-9]+))?(://.*)")

Place: TypeAlias = tuple[str, int, str]


@dataclass(frozen=True)
class Database:
    """A database by its name in workflows. Its URL, which may hold a password, is kept out of what is printed."""

    name: str
    dialect: str
    url: str = field(repr=False)  # as SQLAlchemy takes it; for SQLite the path of the file

    @property
    def place(self) -> Place | None:
        """Host, port and name of a PostgreSQL, for a comparison; None of other kinds."""
        if self.dialect != "postgresql":
            return None
        parts = urlsplit(self.url)
        [host] = parse_qs(parts.query).get("host", [unquote(parts.hostname or "")])[:1]
        return place(host, parts.port, unquote(parts.path.strip("/")))


def parse(text: str) -> dict[str, Database]:
    """The databases by name, of `name=url` entries between commas or blanks.

    >>> parse("shop=mariadb://ada@db/shop, archive=sqlite:////srv/archive.db")["shop"]
    Database(name='shop', dialect='mysql')

    Raises ValueError with what is wrong; the message shows nothing of a URL.
    """
    found: dict[str, Database] = {}
    for number, entry in enumerate(re.split(r"[,\s]+", text.strip(", \t\r\n")) if text.strip() else (), start=1):
        database = _database(number, entry)
        if database.name in found:
            raise ValueError(f'the name "{database.name}" stands twice')
        found[database.name] = database
    return found


def place(host: str, port: int | str | None, name: str) -> Place:
    """Where a PostgreSQL database is. Places that differ may be one all the same: by another name, through a pooler."""
    local = host.lower() in ("localhost", "127.0.0.1", "::1")
    return ("localhost" if local else host.lower(), int(port or 5432), name)


def _database(number: int, entry: str) -> Database:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(
            f"entry {number} is not name=url, like warehouse=postgresql://user:password@host/database. Entries are "
            "separated by commas; a comma within a password is written %2C, a blank %20"
        )
    name, dialect, driver, rest = match.groups()
    dialect = _OTHER_NAMES.get(dialect, dialect)
    if dialect not in DIALECTS:
        raise ValueError(f'{name}: unknown kind of database "{dialect}"; known: {", ".join([*DIALECTS, "mariadb"])}')
    if driver is not None and driver != DIALECTS[dialect]:
        raise ValueError(f'{name}: the driver "{driver}" is not used; leave it out')
    if dialect == "sqlite":
        return Database(name, dialect, _file(name, rest))
    url = f"{dialect}+{DIALECTS[dialect]}{rest}"
    try:
        parts = urlsplit(url)
        complete = parts.port != 0 and parts.path.strip("/")
    except ValueError:
        raise ValueError(
            f"{name}: the URL's host or port is not one; in a password, @ : / ? # and commas are written %…"
        ) from None
    if not complete:
        raise ValueError(f"{name}: the URL does not say which database: …://user:password@host/database")
    return Database(name, dialect, url)


def _file(name: str, rest: str) -> str:
    path = unquote(rest.removeprefix("://"))
    if not path.startswith("//") or path.endswith("/") or "?" in path:
        raise ValueError(f"{name}: write the whole path of the file, sqlite:////srv/archive.db (four slashes)")
    return path[1:]


Databases: TypeAlias = Mapping[str, Database]
