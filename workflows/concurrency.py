"""Places for runs with the same concurrency key: who may begin, who queues, and who is next."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Final

from django.db import connection
from django.db.models import Count, QuerySet
from django.db.models.functions import Now

from project.doorbell import ring
from project.expressions import Context
from workflows.definition import Definition
from workflows.models import ACTIVE, Run, RunState
from workflows.work import Work

LOOK_AGAIN: Final = timedelta(seconds=1)  # a run that takes another's place, should word of its end be lost
LONGEST: Final = 300


def slot_of(definition: Definition, context: Context) -> str:
    """Workflow and key, as one name. Raises EvaluationError."""
    assert definition.concurrency is not None
    key = str(definition.concurrency.keys.render(context))
    slot = f"{definition.name}:{key}"
    return slot if len(slot) <= LONGEST else f"{definition.name}:sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def admit(works: Sequence[Work], beside: Iterable[str] = ()) -> list[Run]:
    """Let queued runs begin, as far as there is room, in the order in which they were started; hold the others back.

    `beside` are the slots that the same transaction may release. Returns those for which `rivals` must make room.
    """
    replacing = []
    slots = {work.run.slot for work in works}
    _hold({*slots, *beside})  # all at once: who held some and wanted more would wait in a circle with others
    active = Run.objects.filter(slot__in=slots, state__in=ACTIVE)
    busy = Counter(dict(active.filter(queued=False).values_list("slot").annotate(Count("pk"))))
    queue = active.filter(queued=True).exclude(pk__in=[work.run.pk for work in works])
    first = dict(queue.order_by("slot", "uid").distinct("slot").values_list("slot", "uid"))
    for work in sorted(works, key=lambda work: work.run.uid):
        rule, slot, uid = work.plan.definition.concurrency, work.run.slot, work.run.uid
        if rule is None or (busy[slot] < rule.limit and not (slot in first and first[slot] < uid)):
            work.admit()
            busy[slot] += 1
        elif rule.on_conflict == "skip":
            work.end(RunState.CANCELLED, f"skipped: {_at_work(rule.limit)} under the key {slot}")
        else:
            first.setdefault(slot, uid)
            work.hold_back(work.now + LOOK_AGAIN if rule.on_conflict == "replace" else None)
            if rule.on_conflict == "replace":
                replacing.append(work.run)
    return replacing


def release(ended: Counter[str]) -> None:
    """So many runs under these slots have ended: wake as many that queue there."""
    if not ended:
        return
    _hold(ended)
    for slot, n in ended.items():
        queue = Run.objects.filter(slot=slot, state__in=ACTIVE, queued=True).order_by("uid")
        # One that is locked is being looked at by somebody who waits for our slot, or it is about to end: to wait for
        # them would be a circle.
        next_ones = queue.select_for_update(skip_locked=True, no_key=True)[:n]
        if Run.objects.filter(pk__in=[run.pk for run in next_ones.only("pk")]).update(due_at=Now()):
            ring("workflows.advance", by=slot)


def rivals(run: Run) -> QuerySet[Run]:
    """The runs whose place this one takes: all that were started before it."""
    return Run.objects.filter(slot=run.slot, state__in=ACTIVE, uid__lt=run.uid)


def _hold(slots: Collection[str]) -> None:
    """One at a time may let runs begin under a key: the lock is the transaction's, taken in one order by everybody."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(slot, 0)) FROM (SELECT DISTINCT slot FROM "
            "unnest(%s::text[]) AS given (slot) ORDER BY slot) AS slots",
            [list(slots)],
        )


def _at_work(limit: int) -> str:
    return "another run is at work" if limit == 1 else f"{limit} runs are at work"
