"""What must add up about runs: somebody will wake each that is not at its end, and whom its steps told is told."""

from __future__ import annotations

from typing import Final

from project.ledger import Sum, audited
from workflows.models import ACTIVE, UNDER_WAY, Run, RunState, StepRun, StepState

# A subquery with LIMIT is asked for one row at a time. EXISTS may become a hash of the whole table.
WOKEN_BY: Final = {
    "the clock": "run.due_at IS NOT NULL",
    "a step under way": """
        (SELECT true FROM workflows_steprun AS step
            WHERE step.run_id = run.uid AND step.state = ANY (%(under_way)s) LIMIT 1)
    """,
    "the end of a run that holds its slot": """
        run.queued AND (SELECT true FROM workflows_run AS holder WHERE holder.slot = run.slot AND holder.slot <> ''
            AND holder.state = ANY (%(active)s) AND NOT holder.queued LIMIT 1)
    """,
}
"""Who may bring a run on that is not at its end, and how that is seen."""

RUNS: Final = audited(
    Sum(
        name="runs",
        says="runs = ended + runs that somebody will wake",
        rows=Run,
        statement=f"""
            WITH judged AS MATERIALIZED (
                SELECT uid, CASE
                    WHEN state = ANY (%(ended)s)
                        THEN CASE WHEN due_at IS NOT NULL THEN 'at its end (' || state || '), and still due' END
                    WHEN state <> ALL (%(active)s) THEN 'in the unknown state "' || state || '"'
                    WHEN ({" OR ".join(f"({seen})" for seen in WOKEN_BY.values())}) IS NOT TRUE
                        THEN state || ', and nobody will wake it' END AS fault
                FROM workflows_run AS run WHERE uid > %(after)s AND uid <= %(upto)s
            )
            SELECT uid, 1 AS left_side, (fault IS NULL)::int AS right_side, fault FROM judged
        """,
        parameters={
            "active": list(ACTIVE),
            "ended": [state for state in RunState if state not in ACTIVE],
            "under_way": list(UNDER_WAY),
        },
    )
)

STEPS: Final = audited(
    Sum(
        name="steps",
        says="steps = ended + steps that somebody will take up",
        rows=StepRun,
        shown=Run,
        # A step in a lane is taken up when it is due, one of the engine when its run is. One that waits for the world
        # needs neither, but has no time of its own either.
        statement="""
            WITH judged AS MATERIALIZED (
                SELECT step.run_id AS uid, CASE
                    WHEN step.state = ANY (%(ended)s) THEN NULL
                    WHEN step.state <> ALL (%(under_way)s)
                        THEN 'its step ' || step.step || ' is in the unknown state "' || step.state || '"'
                    WHEN (SELECT run.state FROM workflows_run AS run WHERE run.uid = step.run_id) <> ALL (%(active)s)
                        THEN 'its step ' || step.step || ' is ' || step.state || ', and the run is at its end'
                    WHEN step.state = 'waiting' AND step.due_at IS NULL THEN NULL
                    WHEN step.lane <> '' AND step.due_at IS NULL
                        THEN 'its step ' || step.step || ' is ' || step.state || ', and no performer will take it up'
                    WHEN step.lane = ''
                        AND (SELECT run.due_at FROM workflows_run AS run WHERE run.uid = step.run_id) IS NULL
                        THEN 'its step ' || step.step || ' is ' || step.state || ', and the run is not due' END AS fault
                FROM workflows_steprun AS step WHERE uid > %(after)s AND uid <= %(upto)s
            )
            SELECT uid, 1 AS left_side, (fault IS NULL)::int AS right_side, fault FROM judged
        """,
        parameters={
            "active": list(ACTIVE),
            "under_way": list(UNDER_WAY),
            "ended": [state for state in StepState if state not in UNDER_WAY],
        },
    )
)

TOLD: Final = audited(
    Sum(
        name="told",
        says="deliveries that notify and publish steps name = deliveries they made",
        rows=StepRun,
        shown=Run,
        # A stand-in is made later, by the sender, so the step does not name it. A delivery may have another origin than
        # a step that notifies.
        statement="""
            SELECT coalesce(run, (SELECT run_id FROM workflows_steprun WHERE uid = deliveries.origin)) AS uid,
                (named IS NOT NULL)::int AS left_side, (made IS NOT NULL)::int AS right_side,
                CASE WHEN made IS NULL THEN 'its step ' || step || ' names delivery ' || named || ', which is not there'
                    WHEN named IS NULL THEN 'it made delivery ' || made || ', which its step does not name' END AS fault
            FROM (
                SELECT uid AS origin, run_id AS run, step,
                    jsonb_array_elements_text(output -> 'deliveries')::uuid AS named
                FROM workflows_steprun WHERE uid > %(after)s AND uid <= %(upto)s AND action IN ('notify', 'publish')
            ) AS outputs FULL JOIN (
                SELECT origin, uid AS made, instead_of
                FROM notifications_delivery WHERE origin > %(after)s AND origin <= %(upto)s
            ) AS deliveries ON deliveries.origin = outputs.origin AND made = named
            WHERE named IS NOT NULL OR (instead_of IS NULL
                AND (SELECT action IN ('notify', 'publish') FROM workflows_steprun WHERE uid = deliveries.origin))
        """,
    )
)
