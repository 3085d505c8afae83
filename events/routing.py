"""From stored events to runs: every subscription is asked, and its verdict kept with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal

import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from events import waiting
from events.catalogue import Rule, Rules, rules
from events.models import Event, Replay
from events.verdicts import Judge
from project import bulk, metrics
from project.batch import together_or_alone
from workflows import engine
from workflows.work import Start

log = structlog.get_logger(__name__)

BATCH: Final = 100
OUTCOME: Final = ("verdicts", "routed_at", "due_at", "error")
TRY_AGAIN: Final = timedelta(seconds=10)

Verdict = dict[Literal["name", "verdict", "reason"], str]


def route() -> dict[str, int]:
    """Route one batch of due events, in one transaction with the runs they start.

    Says how many events and runs, and how many events could not be routed and were `postponed`.
    """
    done = Counter[str]()
    with transaction.atomic():
        if events := Event.objects.claim(BATCH):
            for counts in together_or_alone(events, _route, _route_alone):
                done.update(counts)
    return dict(done)


def _route(events: Sequence[Event], *, at_once: bool = True) -> Counter[str]:
    known = rules()
    starts: list[Start] = []
    now = timezone.now()
    for event in events:
        event.verdicts, starting = judge(event, known)
        event.routed_at, event.due_at, event.error = now, None, ""
        starts += starting
    # Before the runs start: no event is waited for by a run that it starts itself.
    waiting.meet(events)
    runs = engine.start(starts, at_once=at_once)
    bulk.update(events, OUTCOME)
    transaction.on_commit(lambda: _count(events), robust=True)
    return Counter(events=len(events), runs=len(runs))


def _count(events: Sequence[Event]) -> None:
    metrics.count("carillon_events_routed_total", len(events))
    for verdict, n in Counter(verdict["verdict"] for event in events for verdict in event.verdicts).items():
        metrics.count("carillon_verdicts_total", n, verdict=verdict)


def judge(event: Event, known: Rules) -> tuple[list[Verdict], list[Start]]:
    """What each subscription that hears of this type says to the event, and the runs that those who matched start."""
    candidates = known.for_type(event.type)
    if not candidates:
        return [], []
    judge = Judge(event)
    verdicts: list[Verdict] = []
    matched: list[Rule] = []
    for rule in candidates:
        verdict, reason = judge.ask(rule)
        verdicts.append({"name": rule.name, "verdict": verdict, **({"reason": reason} if reason else {})})
        if verdict == "matched":
            matched.append(rule)
    context = judge.context if len(matched) == 1 else None
    return verdicts, [
        Start(
            rule.workflow,
            rule.version,
            judge.envelope,
            origin=event.uid,
            trigger=rule.name,
            depth=event.depth,
            context=context,
        )
        for rule in matched
    ]


def _route_alone(event: Event) -> Counter[str]:
    try:
        with transaction.atomic():
            # What failed may be a run's step, which is not the event's fault: the engine does the runs by themselves.
            return _route([event], at_once=False)
    except Exception as error:  # its own fault, or a bug of ours: it waits and is seen, the others go on
        log.exception("event not routed", uid=str(event.uid))
        postpone(event, error)
        return Counter(postponed=1)


def postpone(row: Event | Replay, error: Exception) -> None:
    """Try again later, and tell meanwhile what was wrong."""
    type(row)._base_manager.filter(pk=row.pk).update(
        due_at=Now() + TRY_AGAIN * 2 ** min(row.attempts, 8),
        attempts=row.attempts + 1,
        error=f"{type(error).__name__}: {error}",
    )
