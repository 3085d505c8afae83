"""What must add up about deliveries: each is at its end or due, and what counts as delivered was sent."""

from __future__ import annotations

from typing import Final

from notifications.models import Delivery, DeliveryState
from project.ledger import Sum, audited

DELIVERIES: Final = audited(
    Sum(
        name="deliveries",
        says="deliveries = delivered + pending + failed + skipped (with the reason) + cancelled",
        rows=Delivery,
        statement="""
            WITH judged AS MATERIALIZED (
                SELECT uid, CASE
                    WHEN state <> ALL (%(known)s) THEN 'in the unknown state "' || state || '"'
                    WHEN state = 'pending' AND due_at IS NULL THEN 'pending, and nobody will send it'
                    WHEN state <> 'pending' AND due_at IS NOT NULL THEN state || ', and would be sent again'
                    WHEN state = 'skipped' AND reason = '' THEN 'skipped without a reason' END AS fault
                FROM notifications_delivery WHERE uid > %(after)s AND uid <= %(upto)s
            )
            SELECT uid, 1 AS left_side, (fault IS NULL)::int AS right_side, fault FROM judged
        """,
        parameters={"known": list(DeliveryState)},
    )
)

DELIVERED: Final = audited(
    Sum(
        name="delivered",
        says="deliveries that were delivered = last attempts that arrived",
        rows=Delivery,
        # An attempt may arrive after its delivery was cancelled, or after its lease ran out and the next attempt began:
        # it is recorded and decides nothing.
        statement="""
            WITH tried AS MATERIALIZED (
                SELECT uid, state, attempts, forgiven, (SELECT max(number) FROM notifications_attempt
                    WHERE delivery_id = uid AND outcome = 'delivered') AS arrived
                FROM notifications_delivery WHERE uid > %(after)s AND uid <= %(upto)s
            ), judged AS MATERIALIZED (
                SELECT *, coalesce(arrived = attempts AND arrived > forgiven AND state <> 'cancelled', false) AS decides
                FROM tried
            )
            SELECT uid, (state = 'delivered')::int AS left_side,
                (arrived IS NOT NULL AND (state = 'delivered' OR decides))::int AS right_side,
                CASE WHEN state = 'delivered' AND arrived IS NULL THEN 'delivered, and no attempt arrived'
                    WHEN state <> 'delivered' AND decides
                    THEN 'attempt ' || arrived || ' arrived, and the delivery is ' || state END AS fault
            FROM judged
        """,
    )
)
