"""From the wish that an event be heard again to the runs that start; the router's own code asks the subscriptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import structlog
from django.db import transaction
from django.db.models import Max, prefetch_related_objects
from django.utils import timezone

from events.catalogue import Rules, rules
from events.models import Event, Replay
from events.routing import BATCH, OUTCOME, Verdict, judge, postpone
from project import bulk, metrics
from project.batch import together_or_alone
from project.doorbell import ring
from project.names import unknown
from workflows import engine
from workflows.work import Start

log = structlog.get_logger(__name__)


class CannotReplay(ValueError):
    """The event cannot be heard again now; the message says why."""


class UnknownSubscription(CannotReplay):
    """No subscription of this name hears of the event's type."""


def foresee(event: Event, subscription: str = "") -> list[Verdict]:
    """What subscriptions would say to the event now: all that hear of its type, or the one. Raises CannotReplay."""
    if event.due_at is not None:
        raise CannotReplay("The event waits to be routed. Once it was, it can be replayed.")
    verdicts, _ = judge(event, _asked(event, subscription, rules()))
    if subscription and not verdicts:
        names = [rule.name for rule in rules().for_type(event.type)]
        raise UnknownSubscription(f"{unknown('subscription', subscription, names)}; these hear of {event.type}")
    return verdicts


def ask(event: Event, *, by: str, subscription: str = "", key: str = "") -> tuple[Replay, bool]:
    """Have the event heard again, by all subscriptions that hear of its type or by one; `by` is told as who wished it.

    It is stored, and done by the workers: returns the replay and whether it is new, for one that was asked for with the
    same `key` is there already. Raises CannotReplay.
    """
    with transaction.atomic():
        # Two who ask at once wait for each other, so that no number is given twice.
        event = Event.objects.select_for_update(no_key=True).get(pk=event.pk)
        if key and (there := event.replays.filter(key=key).first()):
            return there, False
        foresee(event, subscription)
        last = event.replays.aggregate(last=Max("number"))["last"] or 0
        asked = Replay.objects.create(
            event=event, number=last + 1, subscription=subscription, by=by, key=key, due_at=timezone.now()
        )
        ring("events.replay", by=f"{event.type} {event.uid}")
    return asked, True


def replay() -> dict[str, int]:
    """Route one batch of due replays, in one transaction with the runs they start; says how many of each.

    Steps that wait for an event do not hear of it: it came to them when it came first.
    """
    done = Counter[str]()
    with transaction.atomic():
        if replays := Replay.objects.claim(BATCH):
            prefetch_related_objects(replays, "event")
            for counts in together_or_alone(replays, _replay, _replay_alone):
                done.update(counts)
    return dict(done)


def _asked(event: Event, subscription: str, known: Rules) -> Rules:
    """Of the subscriptions, those that are asked."""
    if not subscription:
        return known
    return Rules(rule for rule in known.for_type(event.type) if rule.name == subscription)


def _replay(replays: Sequence[Replay], *, at_once: bool = True) -> Counter[str]:
    known, now = rules(), timezone.now()
    starts: list[Start] = []
    for each in replays:
        each.verdicts, starting = judge(each.event, _asked(each.event, each.subscription, known))
        if each.subscription and not each.verdicts:
            reason = f"there is no such subscription any more that hears of {each.event.type}"
            each.verdicts = [{"name": each.subscription, "verdict": "error", "reason": reason}]
        each.routed_at, each.due_at, each.error = now, None, ""
        starts += [replace(start, replay=each.number) for start in starting]
    runs = engine.start(starts, at_once=at_once)
    bulk.update(replays, OUTCOME)
    transaction.on_commit(lambda: metrics.count("carillon_replays_routed_total", len(replays)), robust=True)
    return Counter(replays=len(replays), runs=len(runs))


def _replay_alone(each: Replay) -> Counter[str]:
    try:
        with transaction.atomic():
            return _replay([each], at_once=False)
    except Exception as error:  # its own fault, or a bug of ours: it waits and is seen, the others go on
        log.exception("replay not routed", uid=str(each.event_id), number=each.number)
        postpone(each, error)
        return Counter(postponed=1)
