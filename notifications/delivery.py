"""From a pending delivery to a recorded attempt: claim, try, record. The sender (sender.py) keeps them going round."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from notifications import lanes
from notifications.catalogue import Catalogue, LiveChannel, catalogue
from notifications.channels.base import Outgoing, Receipt, SendError
from notifications.compose import compose_stand_ins
from notifications.models import Channel, Delivery, DeliveryState, Outcome
from notifications.queries import Lane, Leased, Quota, Record
from project import metrics
from project.pump import Claimed
from project.transport import Transport

log = structlog.get_logger(__name__)

LEASE_MARGIN: Final = 10.0  # seconds that a lease outlives the channel's time-out: to record the outcome
LONGEST_RESPONSE: Final = 2000  # characters kept of what came back
LOOK_AGAIN: Final = 0.2  # seconds until a lane is looked at again whose rows others hold


@dataclass(frozen=True, slots=True)
class Job:
    """A leased delivery and how it is to be sent."""

    leased: Leased
    channel: LiveChannel
    well: bool = True  # the lane had no trouble when the delivery was claimed

    @property
    def attempt(self) -> int:
        """The number of this attempt since somebody last retried the delivery, from 1."""
        return self.leased.attempt - self.leased.forgiven


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job: a receipt or an error. `tried` is False where no attempt was made.

    `broken_off`: the attempt was ended from here, and is not held against the delivery.
    """

    job: Job
    receipt: Receipt | None = None
    error: SendError | None = None
    tried: bool = True
    broken_off: bool = False
    started: float = field(default_factory=time.monotonic)
    ended: float = field(default_factory=time.monotonic)


def claim(free: int, room: Callable[[LiveChannel], int]) -> Claimed[Job, Done]:
    """Lease up to `free` due deliveries, shared fairly between the lanes; at most `room(channel)` of each.

    Over all processes, no lane has more under way than its channel's `max_in_flight` or goes faster than its rate.
    """
    with transaction.atomic():
        # A statement of its own: only what is read after the lanes are locked counts everybody's leases.
        due_lanes, now = Channel.objects.lock_due_lanes()
        if not due_lanes:
            return Claimed()
        plan = _plan(due_lanes, now, catalogue(), free, room)
        taken = Delivery.objects.take(plan.quotas) if plan.quotas else []
    jobs = [Job(leased, plan.channels[leased.lane], plan.well[leased.lane]) for leased in taken]
    over = [done for job in jobs if (done := _over(job))]
    finished = {done.job.leased.uid for done in over}
    got = Counter(leased.lane for leased in taken)
    full = any(got[leased.lane] == leased.allowed for leased in taken)
    waits = list(plan.waits)
    if any(not got[quota.lane] for quota in plan.quotas):
        waits.append(LOOK_AGAIN)
    return Claimed(
        jobs=[job for job in jobs if job.leased.uid not in finished],
        over=over,
        more=plan.crowded or full,
        again_in=min(waits, default=None),
    )


async def attempt(job: Job, transport: Transport) -> Receipt:
    """Send it once. Raises SendError, TimeoutError after the channel's time-out, or whatever a channel type raises."""
    leased, channel = job.leased, job.channel
    if channel.type is None:
        raise SendError(channel.problem)
    message = leased.message
    return await channel.type.send(
        Outgoing(
            uid=leased.uid,
            channel=channel.name,
            to=leased.to,
            type=message.get("type", ""),
            created_at=leased.created_at,
            attempt=leased.attempt,
            timeout=channel.timeout,
            subject=message.get("subject", ""),
            text=message.get("text", ""),
            html=message.get("html", ""),
            data=message.get("data"),
            event=message.get("event") or {},
        ),
        transport,
    )


def record(dones: Sequence[Done]) -> float | None:
    """Store what became of jobs, in one transaction: attempts, states, the lanes' health, stand-ins for failed ones.

    Returns the seconds until the first of what this made due, for its sender to look again.
    """
    records = [_record(done) for done in dones]
    with transaction.atomic():
        moved = Delivery.objects.record(records)
        _judge(dones)
        failed = [record.uid for record in records if record.state == DeliveryState.FAILED and record.uid in moved]
        with_fallback = {done.job.leased.uid for done in dones if done.job.channel.fallback_id}
        stand_ins = 0
        if with_fallback.intersection(failed):
            stand_ins = compose_stand_ins([uid for uid in failed if uid in with_fallback])
    told = Counter((done.job.channel.name, row.outcome or row.state) for done, row in zip(dones, records, strict=True))
    for (channel, outcome), number in told.items():
        metrics.count("carillon_deliveries_total", number, channel=channel, outcome=outcome)
    pauses = [record.delay for record in records if record.state == DeliveryState.PENDING]
    return min([*pauses, 0.0] if stand_ins else pauses, default=None)


def retry(deliveries: QuerySet[Delivery]) -> int:
    """Send failed and cancelled deliveries again, with a fresh retry schedule; pending ones at once. Returns how many.

    Ring `notifications.deliver` afterwards. Delivered and skipped ones are left alone, and so is an attempt under way.
    """
    states = (DeliveryState.FAILED, DeliveryState.CANCELLED, DeliveryState.PENDING)
    return deliveries.filter(state__in=states, leased=False).update(
        state=DeliveryState.PENDING, reason="", due_at=Now(), finished_at=None, forgiven=F("attempts")
    )


def cancel(deliveries: QuerySet[Delivery]) -> int:
    """Stop pending deliveries; returns how many. An attempt under way may still arrive, and is recorded."""
    return deliveries.filter(state=DeliveryState.PENDING).update(
        state=DeliveryState.CANCELLED, reason="cancelled", due_at=None, leased=False, finished_at=Now()
    )


# --- claiming --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Plan:
    quotas: list[Quota] = field(default_factory=list)
    channels: dict[int, LiveChannel] = field(default_factory=dict)
    well: dict[int, bool] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)  # seconds until a lane opens that is closed now
    crowded: bool = False  # a lane has no room left in this process


def _plan(
    due_lanes: Sequence[Lane], now: datetime, known: Catalogue, free: int, room: Callable[[LiveChannel], int]
) -> _Plan:
    """Who gets how much."""
    plan = _Plan()
    open_lanes: list[tuple[datetime, Lane, LiveChannel, lanes.Pace | None, int]] = []
    for lane in due_lanes:
        channel = known.by_id.get(lane.id)
        if channel is None:  # made a moment ago; the next claim knows it
            plan.waits.append(LOOK_AGAIN)
            continue
        pace = lanes.Pace.of(channel.rate) if channel.rate and channel.enabled else None
        opens_at = max(lane.health.hold_until or now, pace.opens_at(lane.next_at) if pace else now)
        if opens_at > now and channel.enabled:
            plan.waits.append((opens_at - now).total_seconds())
            continue
        most = room(channel)
        if pace:
            most = min(most, pace.allowance(lane.next_at, now))
        if lane.health.probing and channel.enabled:
            most = min(most, 1)
        if most <= 0:
            plan.crowded = True
            continue
        open_lanes.append((min(opens_at, lane.next_at), lane, channel, pace, most))
    open_lanes.sort(key=lambda entry: entry[0])  # whoever waited longest comes first when there are too few slots
    shares = lanes.share(free, [most for *_, most in open_lanes])
    for (_, lane, channel, pace, _), slots in zip(open_lanes, shares, strict=True):
        if not slots:
            plan.crowded = True
            continue
        plan.channels[lane.id] = channel
        plan.well[lane.id] = not lane.health.failures and lane.health.failing_since is None
        plan.quotas.append(
            Quota(
                lane=lane.id,
                most=slots,
                under_way=1 if lane.health.probing else channel.max_in_flight,
                lease=channel.timeout + LEASE_MARGIN,
                interval=pace.interval if pace else 0.0,
            )
        )
    return plan


def _over(job: Job) -> Done | None:
    """What is not tried any more, and why."""
    if not job.channel.enabled:
        return Done(job, error=SendError(f"channel {job.channel.name} is disabled", permanent=True), tried=False)
    if job.attempt > job.channel.schedule.attempts:
        died = "the process that made the last attempt died before it could record the outcome"
        return Done(job, error=SendError(died, permanent=True), tried=False)
    return None


# --- recording -------------------------------------------------------------------------------------------------------


def _record(done: Done) -> Record:
    leased, error = done.job.leased, done.error
    same: dict[str, Any] = {
        "uid": leased.uid,
        "attempt": leased.attempt,
        "tried": done.tried,
        "ms": round((done.ended - done.started) * 1000),
        "age": time.monotonic() - done.started,
    }
    if error is None:
        receipt = done.receipt or Receipt()
        same |= {"status": receipt.status, "response": _storable(receipt.response)}
        return Record(**same, state=DeliveryState.DELIVERED, outcome=Outcome.DELIVERED)
    same |= {"status": error.status, "response": _storable(str(error))}
    if not done.tried and not error.permanent:  # put back
        return Record(**same, state=DeliveryState.PENDING)
    if done.broken_off:
        return Record(**same, state=DeliveryState.PENDING, outcome=Outcome.RETRY, forgive=1)
    pause = None if error.permanent else _pause(done.job, error)
    if pause is not None:
        return Record(**same, state=DeliveryState.PENDING, outcome=Outcome.RETRY, delay=pause.total_seconds())
    given_up = "" if error.permanent else f"given up after {done.job.attempt} attempts: "
    outcome = Outcome.FAILED if done.tried else ""
    return Record(**same, state=DeliveryState.FAILED, outcome=outcome, reason=given_up + _storable(_with_status(error)))


def _pause(job: Job, error: SendError) -> timedelta | None:
    return job.channel.schedule.delay_after(job.attempt, jitter=random.random(), retry_after=error.retry_after)


def _with_status(error: SendError) -> str:
    return f"{error.status} {error}" if error.status and not str(error).startswith(str(error.status)) else str(error)


def _storable(text: str) -> str:
    """What PostgreSQL can store of it: no zeros, no half surrogates, not too long."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()[:LONGEST_RESPONSE]


def _judge(dones: Iterable[Done]) -> None:
    """Keep the health of the lanes in which something happened that says anything about it."""
    happened: dict[int, lanes.Happened] = defaultdict(lanes.Happened)
    telling = set()
    for done in dones:
        if not done.tried:
            continue
        lane = done.job.leased.lane
        _tell(happened[lane], done)
        if not done.job.well or (done.error and done.error.hold):
            telling.add(lane)
    if telling:
        _change_health({lane: happened[lane] for lane in telling})


def _tell(happened: lanes.Happened, done: Done) -> None:
    error = done.error
    if error is None:
        happened.delivered += 1
    elif not error.hold:
        happened.refused += 1
    else:
        happened.troubled += 1
        happened.trouble = _storable(_with_status(error))
        if error.retry_after is not None:
            happened.retry_after = max(error.retry_after, happened.retry_after or timedelta(0))


def _change_health(happened: Mapping[int, lanes.Happened]) -> None:
    locked, now = Channel.objects.lock_lanes(sorted(happened))
    for lane in locked:
        before = lane.health
        after = lanes.judge(before, happened[lane.id], now)
        if after == before:
            continue
        changed = {
            "failures": after.failures,
            "failing_since": after.failing_since,
            "hold_until": after.hold_until,
            "hold_reason": after.hold_reason,
        }
        if after.enabled != before.enabled:  # only then: setting it counts as a change of the configuration
            changed["enabled"] = after.enabled
            log.warning("channel switched itself off", channel=lane.name, reason=after.hold_reason)
        elif after.hold_until != before.hold_until and after.hold_until:
            log.warning("channel held back", channel=lane.name, until=str(after.hold_until), reason=after.hold_reason)
        Channel.objects.filter(pk=lane.id).update(**changed)
