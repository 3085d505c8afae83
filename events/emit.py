"""An event from your own code, in the transaction that the code is in: it is sent if that commits, or it never was."""

from __future__ import annotations

import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from events import cloudevents, ingest
from events.ingest import Stored
from project.api import BadRequest, Conflict, Fault, load
from project.depth import too_deep
from project.identifiers import OWN_SOURCE


def emit(
    type: str, data: Any = None, *, subject: str = "", id: str = "", source: str = OWN_SOURCE, depth: int = 0
) -> Stored:
    """Store an event in the current transaction of the database `default`; without one, at once.

        with transaction.atomic():
            order.save()
            emit("order.paid", {"order_id": order.pk, "amount": float(order.amount)}, subject=order.pk)

    The workers hear of it after the commit; a rollback leaves nothing. `data` is JSON, in which dates, times, UUIDs and
    Decimals become text: say `float` where the schema wants a number. With an `id` of yours the event counts once,
    however often it is emitted: what was stored first is returned, with `duplicate`. `source` is `/carillon`, or a
    source's address and what may be below it (`/shop/eu`). In an action give `depth=call.depth + 1`: by it the loop
    guard ends a chain of events and runs that lead to each other.

    Raises Problem (project.api), which names each field at fault, for what the API would refuse as well: an unknown or
    retired type, data against its schema, what is too long or too large; TypeError or ValueError for data that are no
    JSON. Nothing is stored then, and the transaction can go on.
    """
    if told := too_deep(depth):
        raise Conflict(told)
    if not source.startswith("/"):
        told = f"begins with a slash, as {OWN_SOURCE} does"
        raise BadRequest(f"source: {told}", [Fault("source", told)])
    kept = load(json.dumps(data, cls=DjangoJSONEncoder, allow_nan=False).encode())
    event = cloudevents.plain({"type": type, "data": kept, "subject": subject, "id": id, "source": source})
    event.depth = depth
    (stored,) = ingest.accept([event], source=source)
    return stored
