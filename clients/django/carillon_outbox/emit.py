"""From what happened in your project to a row that says it, in the same transaction."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from carillon_outbox.models import OutgoingEvent

# What Carillon takes; in bytes, of UTF-8.
MOST = {"type": 200, "id": 200, "subject": 500, "source": 500}
MOST_OF_ALL = 256 * 1024


def emit(
    type: str, data: Any = None, *, subject: str = "", id: str = "", source: str = "", using: str | None = None
) -> str:
    """Have an event sent to Carillon if the current transaction commits; without a transaction, at once.

        with transaction.atomic():
            order.save()
            emit("order.paid", {"order_id": order.pk, "amount": float(order.amount)}, subject=order.pk)

    Returns the event's id: yours, or a new one. Carillon counts an event once for its source and id, so an id that
    comes from what happened (`f"order-{order.pk}-paid"`) makes emitting it twice harmless. `data` is JSON, in which
    dates, times, UUIDs and Decimals become text: say `float` where the event type's schema wants a number. `source`
    may go below the API key's own (`/shop/eu`). `using` is the database whose transaction it is, where not the
    router's.

    Raises ValueError for what is too long or too large, TypeError or ValueError for data that are no JSON. Whether
    Carillon knows the type, and whether the data fit its schema, it says later: such an event is kept with the reason.
    """
    id = id or str(uuid.uuid4())
    given = {"type": type, "id": id, "subject": subject, "source": source}
    if not type:
        raise ValueError("type: the event needs one, such as order.paid")
    for name, value in given.items():
        if len(value.encode()) > MOST[name]:
            raise ValueError(f"{name}: has {len(value.encode())} bytes; at most {MOST[name]}")
        if "\0" in value:
            raise ValueError(f"{name}: contains a NUL character")
    now = datetime.now(timezone.utc)
    event = {**{name: value for name, value in given.items() if value}, "time": now.isoformat(), "data": data}
    body = json.dumps(event, cls=DjangoJSONEncoder, allow_nan=False)
    if len(body) > MOST_OF_ALL:
        size = len(json.dumps(event, cls=DjangoJSONEncoder, ensure_ascii=False).encode(errors="replace"))
        if size > MOST_OF_ALL:
            raise ValueError(f"the event has {size:,} bytes; at most {MOST_OF_ALL:,}")
    OutgoingEvent.objects.using(using).create(event_id=id, type=type, subject=subject, body=body)
    return id
