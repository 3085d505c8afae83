"""From a due step of an outside action to its recorded outcome: claim, perform, record.

The lease is the same for all lanes; who performs is not: `performer.py` waits for the network with many steps at once,
`code.py` runs one step of ordinary code in a process that can be stopped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import orjson
import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from pydantic import ValidationError

from project import bulk, metrics
from project.doorbell import ring
from project.durations import format_duration
from project.fields import complaints, dotted
from project.pump import Claimed
from project.retry import RetryPolicy
from project.secrets import UnknownVariable, resolve_written
from project.time_limit import OutOfTime
from workflows.actions.base import Call, Json, Performed, StepError, Wait
from workflows.actions.http import Busy
from workflows.answers import early
from workflows.definition import Step
from workflows.models import ACTIVE, Run, StepRun, StepState
from workflows.publishing import load
from workflows.queries import Lease
from workflows.scope import scope

log = structlog.get_logger(__name__)

LEASE_MARGIN: Final = 10.0  # seconds that a lease outlives the time limit: to record the outcome, or to die
LONGEST_ERROR: Final = 2000  # characters
LONGEST_OUTPUT: Final = 1024 * 1024  # bytes
RECORDED: Final = ("state", "lane", "output", "error", "turns", "due_at", "finished_at")


@dataclass(frozen=True, slots=True)
class Job:
    """A leased step and how it is to be performed."""

    uid: UUID
    run: UUID
    attempt: int
    action: Performed = field(repr=False)  # it may hold secrets
    call: Call = field(repr=False)
    policy: RetryPolicy
    limit: timedelta
    side: str = ""  # the far side that it counts against

    @property
    def seconds(self) -> float:
        return self.limit.total_seconds()


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an attempt: the state it leaves the step in. `delay`: until the next one, of a pending step."""

    uid: UUID
    run: UUID
    attempt: int
    action: str
    state: StepState
    output: Json = field(default=None, repr=False)
    error: str = ""
    delay: timedelta = timedelta(0)
    until: datetime | None = None  # of a waiting step


# --- what becomes of an attempt --------------------------------------------------------------------------------------


def returned(job: Job, value: Json | Wait) -> Done:
    """The action came to its end."""
    try:
        if isinstance(value, Wait):
            return _done(job, StepState.WAITING, output=_storable(value.output), until=value.until)
        return _done(job, StepState.SUCCEEDED, output=_storable(value))
    except ValueError as error:
        return failed(job, StepError(str(error), permanent=True))


def failed(job: Job, error: BaseException) -> Done:
    """The action raised: the step is tried again as its policy says, or failed."""
    if isinstance(error, OutOfTime | TimeoutError):
        message = f"took longer than {format_duration(job.limit)}"
    elif isinstance(error, StepError):
        message = str(error)
    else:
        message = f"{type(error).__name__}: {error}"
    message = _line(message)
    permanent = isinstance(error, StepError) and error.permanent
    delay = None if permanent else job.policy.delay_after(job.attempt)
    if delay is None:
        return _done(job, StepState.FAILED, error=message)
    if isinstance(error, Busy) and error.retry_after is not None:
        delay = max(delay, error.retry_after)
    return _done(job, StepState.PENDING, error=message, delay=delay)


def broken_off(job: Job) -> Done:
    """The process had to stop or stood still, and nobody is to blame: tried again at once, whatever the policy says."""
    return _done(job, StepState.PENDING, error="broken off because the process was stopped")


def _done(job: Job, state: StepState, **more: Json) -> Done:
    return Done(job.uid, job.run, job.attempt, type(job.action).name, state, **more)


def died(attempt: int, policy: RetryPolicy, limit: timedelta) -> str | None:
    """Why a step whose lease ran out is not tried again; None: it is."""
    if attempt < policy.attempts:
        return None
    longer = f"or took longer than {format_duration(limit)}"
    return f"the process died during attempt {attempt} of {max(attempt, policy.attempts)}, {longer}"


def _storable(output: Json) -> Json:
    """The output as JSON that PostgreSQL can store. ValueError when it is none, or too much."""
    try:
        text = orjson.dumps(output, default=str)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its output is not JSON: {error}") from error
    if len(text) > LONGEST_OUTPUT:
        raise ValueError(f"its output has {len(text)} bytes; at most {LONGEST_OUTPUT} are kept")
    if b"\\u0000" in text:  # JSON has it, PostgreSQL's does not
        text = re.sub(rb"(?<!\\)((?:\\\\)*)\\u0000", rb"\1\\ufffd", text)
    return orjson.loads(text)


def _line(text: str) -> str:
    return " ".join(text.replace("\0", "\ufffd").encode(errors="replace").decode().split())[:LONGEST_ERROR]


# --- claiming --------------------------------------------------------------------------------------------------------


def claim(
    lane: str, most: int, *, rooms: Mapping[str, int] | None = None, room: int | None = None
) -> Claimed[Job, Done]:
    """Lease up to `most` due steps of a lane, each for its time limit; at most `room` of each far side.

    A step whose run has ended meanwhile, or is gone, is cancelled. One whose lease ran out on its last attempt is
    `over`, and so is one that cannot be called at all.
    """
    with transaction.atomic():
        sides, more = StepRun.objects.lock_due(lane, most, rooms=rooms or {}, room=most if room is None else room)
        if not sides:
            return Claimed(more=bool(rooms))
        rows = StepRun.objects.filter(pk__in=sides).select_related("run")
        wanted = [row for row in rows if row.run.state in ACTIVE]
        if dead := sides.keys() - {row.pk for row in wanted}:
            StepRun.objects.filter(pk__in=dead).update(state=StepState.CANCELLED, due_at=None, finished_at=Now())
        jobs, over, leases = [], [], []
        for row in wanted:
            outcome = _prepare(row, sides[row.pk])
            seconds = LEASE_MARGIN + (outcome.seconds if isinstance(outcome, Job) else 0.0)
            leases.append(Lease(row.pk, outcome.attempt, seconds))
            if isinstance(outcome, Job):
                jobs.append(outcome)
            else:
                over.append(outcome)
        StepRun.objects.take(leases)
    return Claimed(jobs, over, more=more or bool(rooms), again_in=0.0 if more and len(sides) < most else None)


def _prepare(row: StepRun, side: str) -> Job | Done:
    """The next attempt at a locked step, or why there is none."""
    attempt = row.attempts + 1
    try:
        definition = load(row.run.version_id)
        step = definition.step(row.step)
        action_class = step.action_class
        if not issubclass(action_class, Performed):
            raise StepError(f"{step.action} is not done outside any more", permanent=True)
        policy = step.retry or action_class.default_retry
        limit = step.timeout or action_class.default_timeout
        if row.state == StepState.RUNNING and (death := died(row.attempts, policy, limit)):
            attempt = row.attempts
            raise StepError(death, permanent=True)
        return Job(
            uid=row.pk,
            run=row.run_id,
            attempt=attempt,
            action=_filled(action_class, step, row.input),
            call=Call(
                uid=row.pk,
                run=row.run_id,
                workflow=definition.name,
                step=row.step,
                attempt=attempt,
                context=scope(row.run, definition).variables,
                item=row.item,
                depth=row.run.depth,
            ),
            policy=policy,
            limit=limit,
            side=side,
        )
    except Exception as error:  # definitions and actions may have changed under the run; no step may stay due for ever
        if not isinstance(error, StepError):
            log.warning("step cannot be performed", step=row.step, run=str(row.run_id), error=_line(str(error)))
        return Done(row.pk, row.run_id, attempt, row.action, StepState.FAILED, error=_line(str(error)))


def _filled(action_class: type[Performed], step: Step, given: Json) -> Performed:
    """The action with its settings. Only here are the secrets in them that the step names as `${NAME}`."""
    wrong = complaints(action_class, given)
    if wrong:
        raise StepError("; ".join(f"{dotted(('with', *at))}: {why}" for at, why in wrong), permanent=True)
    try:
        return action_class.model_validate(resolve_written(given, step.with_))
    except UnknownVariable as error:
        raise StepError(f"with: {error}", permanent=True) from error
    except ValidationError as error:  # its text holds the values
        places = ", ".join(dotted(("with", *detail["loc"])) for detail in error.errors())
        raise StepError(f"{places}: not right once the variables are filled in", permanent=True) from None


# --- recording -------------------------------------------------------------------------------------------------------


def record(dones: Sequence[Done]) -> float | None:
    """Store what became of attempts in one transaction, and wake their runs.

    Whoever lost its lease stores nothing. Returns the seconds until the first step is to be tried again, if any is.
    """
    with transaction.atomic():
        # Runs before their steps, and both in one order, as everywhere: so nobody waits for each other in a circle.
        runs = Run.objects.filter(pk__in={done.run for done in dones}, state__in=ACTIVE).order_by("pk")
        found = list(runs.select_for_update(no_key=True).annotate(now=Now()).values_list("pk", "now", "error"))
        live = {pk: now for pk, now, _ in found}
        failing = {pk for pk, _, error in found if error}  # the engine takes back what is to be tried again
        rows = StepRun.objects.filter(pk__in={done.uid for done in dones}).order_by("pk")
        locked = {row.pk: row for row in rows.select_for_update(no_key=True)}
        changed = [row for done in dones if (row := _changed(done, locked.get(done.uid), live)) is not None]
        if changed:
            bulk.update(changed, RECORDED)
            ended = {row.run_id for row in changed if row.state != StepState.PENDING}
            awake = (ended | failing) & live.keys()
            if awake:
                Run.objects.filter(pk__in=awake).update(due_at=Now())
                ring("workflows.advance", by=str(changed[0].run_id))
    kept = {row.pk for row in changed}
    _count(done for done in dones if done.uid in kept)
    return min((done.delay.total_seconds() for done in dones if done.state == StepState.PENDING), default=None)


def _changed(done: Done, row: StepRun | None, live: Mapping[UUID, datetime]) -> StepRun | None:
    """The row as the attempt leaves it; None when it is not this attempt's any more."""
    if row is None or row.state != StepState.RUNNING or row.attempts != done.attempt:
        log.info("outcome dropped, the step is another's", step=str(done.uid), attempt=done.attempt, state=done.state)
        return None
    answer = early(row) if done.state == StepState.WAITING else None
    now = live.get(row.run_id)
    row.state, row.error, row.due_at = done.state, done.error, None
    if done.state != StepState.PENDING:  # an answer that came early is kept for the next attempt
        row.output = done.output
    if now is None:  # the run has ended, and nobody looks at the step any more
        row.state = StepState.CANCELLED
    elif answer is not None:
        row.state = StepState.FAILED if answer.error else StepState.SUCCEEDED
        row.output, row.error = answer.output, answer.error
    elif done.state == StepState.WAITING:
        row.due_at, row.lane = done.until, ""
    elif done.state == StepState.PENDING:
        row.due_at = now + done.delay
    if row.state in (StepState.WAITING, StepState.PENDING):
        row.turn(timezone.now())
        row.finished_at = None
    else:
        row.finished_at = timezone.now()
    return row


def _count(dones: Iterable[Done]) -> None:
    for (action, state), number in Counter((done.action, str(done.state)) for done in dones).items():
        outcome = "retry" if state == StepState.PENDING else state
        metrics.count("carillon_step_attempts_total", number, action=action, outcome=outcome)
