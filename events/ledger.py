"""What must add up about events: each is routed or waits for it, and each that matched has its runs; replays alike."""

from __future__ import annotations

from typing import Final

from events.models import Event, Replay
from project.ledger import Sum, audited

ACCEPTED: Final = audited(
    Sum(
        name="accepted",
        says="events accepted = routed + waiting to be routed",
        rows=Event,
        statement="""
            SELECT uid, 1 AS left_side, (routed_at IS NOT NULL OR due_at IS NOT NULL)::int AS right_side,
                CASE WHEN routed_at IS NULL AND due_at IS NULL
                    THEN 'neither routed nor waiting for it' END AS fault
            FROM events_event WHERE uid > %(after)s AND uid <= %(upto)s
        """,
    )
)

MATCHED: Final = audited(
    Sum(
        name="matched",
        says="subscriptions that matched = runs they started",
        rows=Event,
        # A run's origin may be another thing than an event, so only runs of events that are there are counted.
        statement="""
            SELECT coalesce(said.event, begun.event) AS uid,
                (matched IS NOT NULL)::int AS left_side, (started IS NOT NULL)::int AS right_side,
                CASE WHEN started IS NULL THEN matched || ' matched, and there is no run of it'
                    WHEN matched IS NULL THEN 'there is a run of ' || started || ', which did not match' END AS fault
            FROM (
                SELECT uid AS event, verdict ->> 'name' AS matched
                FROM events_event CROSS JOIN LATERAL jsonb_array_elements(verdicts) AS verdict
                WHERE uid > %(after)s AND uid <= %(upto)s AND verdict ->> 'verdict' = 'matched'
            ) AS said FULL JOIN (
                SELECT origin AS event, trigger AS started
                FROM workflows_run
                WHERE origin > %(after)s AND origin <= %(upto)s AND trigger <> '' AND replay = 0
            ) AS begun ON begun.event = said.event AND started = matched
            WHERE matched IS NOT NULL OR (SELECT true FROM events_event WHERE uid = begun.event)
        """,
    )
)

REPLAYS: Final = audited(
    Sum(
        name="replays",
        says="replays asked for = routed + waiting to be routed",
        rows=Replay,
        shown=Event,
        statement="""
            SELECT event_id AS uid, 1 AS left_side, (routed_at IS NOT NULL OR due_at IS NOT NULL)::int AS right_side,
                CASE WHEN routed_at IS NULL AND due_at IS NULL
                    THEN 'its replay ' || number || ' is neither routed nor waiting for it' END AS fault
            FROM events_replay WHERE uid > %(after)s AND uid <= %(upto)s
        """,
    )
)

REPLAYED: Final = audited(
    Sum(
        name="replayed",
        says="subscriptions that matched in replays = runs they started",
        rows=Replay,
        shown=Event,
        # Runs are looked for by the key that makes each of them one: event, subscription and replay.
        statement="""
            WITH asked AS MATERIALIZED (
                SELECT event_id, number, verdicts FROM events_replay WHERE uid > %(after)s AND uid <= %(upto)s
            ), said AS MATERIALIZED (
                SELECT event_id, number, verdict ->> 'name' AS matched
                FROM asked CROSS JOIN LATERAL jsonb_array_elements(verdicts) AS verdict
                WHERE verdict ->> 'verdict' = 'matched'
            ), begun AS MATERIALIZED (
                SELECT event_id, number, started FROM asked CROSS JOIN LATERAL (
                    SELECT trigger AS started FROM workflows_run AS run
                    WHERE run.origin = event_id AND run.replay = number OFFSET 0) AS runs
            )
            SELECT event_id AS uid, 1 AS left_side, (there IS NOT NULL)::int AS right_side,
                CASE WHEN there IS NULL
                    THEN matched || ' matched in replay ' || number || ', and there is no run of it' END AS fault
            FROM (
                SELECT event_id, number, matched, (SELECT true FROM workflows_run AS run WHERE run.origin = event_id
                    AND run.trigger = matched AND run.replay = number) AS there FROM said
            ) AS found
            UNION ALL
            SELECT event_id, 0, 1, 'there is a run of ' || started || ' in replay ' || number || ', which did not match'
            FROM begun WHERE (event_id, number, started) NOT IN (SELECT event_id, number, matched FROM said)
        """,
    )
)
