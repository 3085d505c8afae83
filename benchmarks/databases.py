"""Rows in bulk, straight into a Carillon's database: what would take hours by its API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import sql

KINDS = 50  # event types that subscriptions are spread over
CHUNK = 100_000  # events in a transaction


def row(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchone()


def first_errors(url: str) -> str:
    """What a Carillon wrote down of what went wrong; "" when nothing did."""
    tables = {"events_event": "error", "workflows_run": "error", "notifications_delivery": "reason"}
    found = [row(url, f"SELECT {column} FROM {table} WHERE {column} <> '' LIMIT 1") for table, column in tables.items()]
    return " ".join(each[0] for each in found if each)


def subscribe(url: str, count: int) -> None:
    """Have `count` subscriptions besides those there are, over the types `order.kind-0` to `order.kind-49`.

    Each hears of one type and one `event.data.part`, and starts the reference job. Those of before are removed.
    """
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM events_subscription WHERE name LIKE 'kind-%'")
        connection.execute(
            """
            INSERT INTO events_eventtype (name, description, retired)
            SELECT 'order.kind-' || kind, '', false FROM generate_series(0, %s - 1) AS kind ON CONFLICT DO NOTHING
            """,
            [KINDS],
        )
        connection.execute(
            """
            INSERT INTO events_subscription (name, description, types, filter, workflow_id, enabled)
            SELECT format('kind-%%s-%%s', i %% %(kinds)s, i / %(kinds)s), '', ARRAY['order.kind-' || i %% %(kinds)s],
                format('event.data.part == %%s && event.data.amount > 100.0', i / %(kinds)s), workflow_id, true
            FROM events_subscription, generate_series(0, %(count)s - 1) AS i WHERE name = 'paid-orders'
            """,
            {"kinds": KINDS, "count": count},
        )


def hear(url: str, count: int) -> None:
    """Have `count` subscriptions on the type `order.fanned`, all of which start the reference job."""
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM events_subscription WHERE name LIKE 'fan-%'")
        connection.execute(
            "INSERT INTO events_eventtype (name, description, retired) VALUES ('order.fanned', '', false)"
            " ON CONFLICT DO NOTHING"
        )
        connection.execute(
            """
            INSERT INTO events_subscription (name, description, types, filter, workflow_id, enabled)
            SELECT 'fan-' || i, '', ARRAY['order.fanned'], filter, workflow_id, true
            FROM events_subscription, generate_series(1, %s) AS i WHERE name = 'paid-orders'
            """,
            [count],
        )


# --- a long history --------------------------------------------------------------------------------------------------

# What follows from an event, table by table: which rows are those of the event with the uid `event`.
FOLLOWS = {
    "events_event": "uid = {event}",
    "workflows_run": "origin = {event}",
    "workflows_steprun": "run_id IN (SELECT uid FROM workflows_run WHERE origin = {event})",
    "notifications_delivery": """origin IN (SELECT step.uid FROM workflows_steprun step
        JOIN workflows_run run ON run.uid = step.run_id WHERE run.origin = {event})""",
    "notifications_attempt": """delivery_id IN (SELECT delivery.uid FROM notifications_delivery delivery
        JOIN workflows_steprun step ON step.uid = delivery.origin
        JOIN workflows_run run ON run.uid = step.run_id WHERE run.origin = {event})""",
    "orders_paid": "order_id = (SELECT data->>'order_id' FROM events_event WHERE uid = {event})",
}


def repeat(url: str, counts: Mapping[str, int], say: Callable[[str], None]) -> None:
    """Make the database what it would be if these events, done with, had come so many times more each.

    Their rows are copied with everything that followed, under new uids and ids, spread over the 30 days before. So a
    column that is added is filled as the real row fills it. The statistics are fresh afterwards, and nothing is left
    for autovacuum to do.
    """
    written, count = 0, sum(counts.values())
    with psycopg.connect(url) as connection:
        # The rows are right, because they are copies; triggers and foreign keys would be asked for each of them.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET synchronous_commit = off")
        for turn, (event_id, share) in enumerate(counts.items()):
            for start in range(0, share, CHUNK):
                end = min(start + CHUNK, share)
                _copy(connection, event_id, turn, start, end, share)
                connection.commit()
                written += end - start
                say(f"  {written:,} of {count:,} events written")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _copy(connection: psycopg.Connection[Any], event_id: str, turn: int, start: int, end: int, share: int) -> None:
    found = connection.execute("SELECT uid FROM events_event WHERE event_id = %s", [event_id]).fetchone()
    assert found is not None, f"no event {event_id}"
    where = {name: sql.SQL(rule).format(event=sql.Literal(found[0])) for name, rule in FOLLOWS.items()}
    uids = _uids(connection, where)
    fresh = sql.SQL(", ").join(
        sql.SQL("uuidv7(-ago) AS {}").format(sql.Identifier(f"u{at}")) for at in range(len(uids))
    )
    connection.execute("DROP TABLE IF EXISTS pg_temp.copies")
    connection.execute(
        sql.SQL(
            """
            CREATE TEMPORARY TABLE copies AS SELECT ago, {fresh}, {prefix} || lpad(i::text, 8, '0') AS event_id
            FROM generate_series({start}, {end}) AS i, LATERAL (SELECT interval '30 days' * (1 - i / {share}::float8)
                + interval '10 minutes' AS ago) AS age ORDER BY i
            """
        ).format(
            fresh=fresh,
            prefix=sql.Literal(f"old-{turn}-"),
            start=sql.Literal(start),
            end=sql.Literal(end - 1),
            share=sql.Literal(share),
        )
    )
    for name, rule in where.items():
        columns = connection.execute(
            """
            SELECT column_name, data_type FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = %s AND is_identity = 'NO' ORDER BY ordinal_position
            """,
            [name],
        ).fetchall()
        values = [_value(column, kind, uids, event_id) for column, kind in columns]
        connection.execute(
            sql.SQL(
                """
                INSERT INTO {table} ({columns})
                SELECT {values} FROM copies, (SELECT * FROM {table} WHERE {rule}) AS one
                """
            ).format(
                table=sql.Identifier(name),
                columns=sql.SQL(", ").join(sql.Identifier(column) for column, _ in columns),
                values=sql.SQL(", ").join(values),
                rule=rule,
            )
        )


def _uids(connection: psycopg.Connection[Any], where: dict[str, sql.Composed]) -> list[Any]:
    """Every uid that the event and what followed from it go by."""
    found: list[Any] = []
    for name, rule in where.items():
        if name not in ("notifications_attempt", "orders_paid"):
            query = sql.SQL("SELECT uid FROM {} WHERE {} ORDER BY uid").format(sql.Identifier(name), rule)
            found += [uid for (uid,) in connection.execute(query)]
    return found


def _value(column: str, kind: str, uids: list[Any], event_id: str) -> sql.Composable:
    """What the copy has in that column: new uids and the new id for the old ones, an earlier time, or the same."""
    old = sql.SQL("one.{}").format(sql.Identifier(column))
    new = [sql.SQL("copies.{}").format(sql.Identifier(f"u{at}")) for at in range(len(uids))]
    if kind == "uuid":
        cases = sql.SQL(" ").join(
            sql.SQL("WHEN {} THEN {}").format(sql.Literal(uid), name) for uid, name in zip(uids, new, strict=True)
        )
        return sql.SQL("CASE {old} {cases} ELSE {old} END").format(old=old, cases=cases)
    if kind.startswith("timestamp"):
        return sql.SQL("{} - ago").format(old)
    if kind in ("jsonb", "text", "character varying"):
        text = sql.SQL("replace({}::text, {}, copies.event_id)").format(old, sql.Literal(event_id))
        for uid, name in zip(uids, new, strict=True) if kind == "jsonb" else ():
            text = sql.SQL("replace({}, {}, {}::text)").format(text, sql.Literal(str(uid)), name)
        return sql.SQL("{}::jsonb").format(text) if kind == "jsonb" else text
    return old
