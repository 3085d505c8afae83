"""An effect in another database that happens once for each key.

The database keeps the keys itself, in the table `carillon_done`: a key is written in one transaction with its effect.
Whoever comes with the same key meanwhile waits for that transaction to end; afterwards the key answers for the effect.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import orjson
import structlog
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    Index,
    MetaData,
    String,
    Table,
    Text,
    delete,
    exc,
    func,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from project.databases import Database
from workflows.foreign import ForeignError
from workflows.foreign.engines import engine_of, limit
from workflows.foreign.errors import told

Json: TypeAlias = Any

KEPT: Final = timedelta(days=90)
"""How long a key is remembered. A step that is done again later than that is done twice."""

_PRUNED_AT_ONCE: Final = 1000
_PRUNING: Final = 0.01  # the share of effects after which old keys are removed: ten times more than come

DONE: Final = Table(
    "carillon_done",
    MetaData(),
    Column("key", String(200), primary_key=True),
    Column("result", Text().with_variant(mysql.LONGTEXT(), "mysql")),
    Column("at", DateTime(timezone=True), server_default=func.now(), nullable=False),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
)
# for `prune`
BY_AGE: Final = Index("carillon_done_at", DONE.c.at)

_log = structlog.get_logger(__name__)
_ready: set[Engine] = set()


def once(database: Database, key: str, effect: Callable[[Connection], Json]) -> Json:
    """Have `effect` change the database; its result, which is JSON. With a key that is done: the result of that time.

    `effect` must leave the transaction alone. What it raises undoes everything. Raises ForeignError.
    """
    engine = engine_of(database)
    with told(database):
        _have_table(database, engine)
        try:
            with engine.begin() as connection:
                limit(connection)
                if not _claim(connection, key):
                    return _result(database, connection, key)
                kept = orjson.dumps(effect(connection))
                connection.execute(update(DONE).where(DONE.c.key == key).values(result=kept.decode()))
        except BaseException:
            _ready.discard(engine)  # the table may be gone
            raise
    if random.random() < _PRUNING:
        _prune_if_possible(database, engine)
    return orjson.loads(kept)


def prune(database: Database) -> int:
    """Remove keys older than KEPT, at most 1,000; how many. Raises ForeignError."""
    with told(database), engine_of(database).begin() as connection:
        limit(connection)
        old = select(DONE.c.key).where(DONE.c.at < datetime.now(UTC) - KEPT).order_by(DONE.c.at).limit(_PRUNED_AT_ONCE)
        keys: Sequence[str] = connection.scalars(old).all()
        return connection.execute(delete(DONE).where(DONE.c.key.in_(keys))).rowcount if keys else 0


def _prune_if_possible(database: Database, engine: Engine) -> None:
    try:
        prune(database)
    except ForeignError as error:
        _log.warning("old keys are not removed", database=database.name, error=str(error))


def _claim(connection: Connection, key: str) -> bool:
    """Write the key, whose row is then ours until the transaction ends; False: it is done."""
    if connection.dialect.name == "mysql":
        claim: Any = mysql.insert(DONE).prefix_with("IGNORE")
    elif connection.dialect.name == "postgresql":
        claim = postgresql.insert(DONE).on_conflict_do_nothing()
    else:
        claim = sqlite.insert(DONE).on_conflict_do_nothing()
    return connection.execute(claim.values(key=key), execution_options={"preserve_rowcount": True}).rowcount == 1


def _result(database: Database, connection: Connection, key: str) -> Json:
    kept = connection.scalar(select(DONE.c.result).where(DONE.c.key == key))
    if kept is None:
        raise ForeignError(f"{database.name}: the key {key} of {DONE.name} was removed meanwhile", permanent=False)
    return orjson.loads(kept)


def _have_table(database: Database, engine: Engine) -> None:
    if engine in _ready:
        return
    if not inspect(engine).has_table(DONE.name):
        try:
            with engine.begin() as connection:
                DONE.create(connection)
        except exc.DBAPIError as error:
            # Somebody else may have made it at the same time.
            if not inspect(engine).has_table(DONE.name):
                made = [str(ddl.compile(engine)).strip() for ddl in (CreateTable(DONE), CreateIndex(BY_AGE))]
                raise ForeignError(
                    f"{database.name}: there is no table {DONE.name}, and it may not be made ({error.orig}). "
                    "Have somebody run there: " + "; ".join(" ".join(ddl.split()) for ddl in made),
                    permanent=True,
                ) from error
    _ready.add(engine)
