"""From runs that are ready to runs that are done or due again, many at once.

A step's effect in the database and the record that it is done are one commit, so it takes effect exactly once, whatever
dies when. All runs of a batch that are at the same step are handed to its action together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from django.db import OperationalError, connection, transaction
from django.db.models import Max, QuerySet
from django.utils import timezone
from pydantic import ValidationError

from project import bulk, metrics
from project.batch import is_transient, raise_if_disconnected, together_or_alone
from project.depth import MOST_DEPTH
from project.doorbell import ring
from project.durations import format_duration
from project.expressions import EvaluationError
from project.fields import complaints, dotted
from project.identifiers import new_uid
from workflows import concurrency, waits
from workflows.actions.base import Action, Call, Child, Json, Performed, StepError, Stop, Turn, Wait
from workflows.definition import Step
from workflows.models import ACTIVE, UNDER_WAY, Lane, Run, RunState, StepRun, StepState, Workflow
from workflows.waits import Answer
from workflows.work import Start, Task, Work

log = structlog.get_logger(__name__)

BATCH: Final = 100
PROGRESS: Final = ("state", "steps", "error", "due_at", "started_at", "finished_at", "queued")
STEP_PROGRESS: Final = ("state", "attempts", "input", "output", "error", "turns", "lane", "due_at", "finished_at")
TRIES: Final = 5
STAGES: Final = {"code": "workflows.perform", "network": "workflows.request"}


def start(starts: Sequence[Start], *, at_once: bool = True) -> list[Run]:
    """Start runs inside the caller's transaction, and do all that is ready for them; returns them.

    Raises when one of them cannot be done together with the others. Called again with `at_once=False`, after the caller
    has undone that, it only stores the runs: `advance` does them, one by one where it must.
    """
    if not starts:
        return []
    now = timezone.now()
    works = [
        Work(
            bulk.new(
                Run,
                uid=new_uid(),
                workflow_id=start.workflow,
                version_id=start.version,
                input=start.input,
                origin=start.origin,
                trigger=start.trigger,
                replay=start.replay,
                parent=start.parent,
                depth=start.depth,
                due_at=now,
                started_at=now,
            ),
            start.context,
        )
        for start in starts
    ]
    _assign_slots(works)
    if at_once:
        _go(works)
    else:
        ring("workflows.advance", by=str(works[0].run.uid))
    _store(works, new=True)
    return [work.run for work in works]


def advance() -> dict[str, int]:
    """Do what is ready for one batch of due runs; says how many runs and steps."""
    with transaction.atomic():
        runs = Run.objects.claim(BATCH)
        if not runs:
            return {}
        steps = sum(together_or_alone(runs, _advance, _advance_alone))
    return {"runs": len(runs), "steps": steps}


def cancel(runs: QuerySet[Run], *, reason: str) -> int:
    """End these runs where they stand, and what they started; returns how many of them were not at their end."""
    tries = 0
    while True:
        tries += 1
        try:
            return _cancel(runs, reason)
        except OperationalError as error:
            # Runs that were started meanwhile may be held by somebody who wants those that we hold.
            if connection.in_atomic_block or tries == TRIES or not is_transient(error):
                raise


def _hold(uids: Collection[UUID]) -> None:
    """Lock these runs, and before them what they started: a child that ends holds itself, then wants its parent."""
    if children := list(Run.objects.filter(parent__in=uids, state__in=ACTIVE).values_list("pk", flat=True)):
        _hold(children)
    list(Run.objects.filter(pk__in=uids).order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))


def _cancel(runs: QuerySet[Run], reason: str) -> int:
    with transaction.atomic():
        _hold(list(runs.filter(state__in=ACTIVE).values_list("pk", flat=True)))
        works = _in_hand(runs.filter(state__in=ACTIVE).order_by("pk").select_for_update(no_key=True))
        for work in works:
            work.now = timezone.now()  # nobody claimed it: its time may be far from come
            work.cancel(reason)
            work.abandoned.clear()  # what its steps started ends below, and is told why
        _store(works)
        children = Run.objects.filter(parent__in=[work.run.pk for work in works])
        if works and children.filter(state__in=ACTIVE).exists():
            _cancel(children, reason=f"the run that started it was cancelled: {reason}")
    return len(works)


class NotEnded(ValueError):
    """The run has not failed, so there is nothing to do again."""


def retry(uid: UUID, *, newest: bool = False) -> Run:
    """Have a failed or cancelled run go on from where it failed, with its own version or the newest one.

    What succeeded is not done again, except what was taken back. Raises Run.DoesNotExist and NotEnded.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).get(pk=uid)
        if run.state not in (RunState.FAILED, RunState.CANCELLED):
            raise NotEnded(f"The run is {run.state}; only one that failed or was cancelled can be retried.")
        if newest:
            run.version_id = Workflow.objects.annotate(newest=Max("versions")).get(pk=run.workflow_id).newest
        work = Work(run)
        work.begin_again()
        run.save(update_fields=[*PROGRESS, "version", "round"])
        ring("workflows.advance", by=str(run.uid))
    return run


# --- a batch ---------------------------------------------------------------------------------------------------------


def _advance(runs: Sequence[Run], *, alone: bool = False) -> int:
    works = _in_hand(runs)
    _go(works, alone=alone)
    _store(works)
    return sum(len(work.changed) for work in works)


def _advance_alone(run: Run) -> int:
    run.refresh_from_db()  # the batch that failed has left its traces in it
    try:
        with transaction.atomic():
            return _advance([run], alone=True)
    except Exception as error:  # nothing that a run brings along may keep it due for ever
        raise_if_disconnected(error)
        run.refresh_from_db()
        work = Work(run)
        if is_transient(error):
            work.postpone()
        else:
            log.exception("run failed outside its steps", run=str(run.uid))
            # What is wrong with it may be what its steps left, so they are ended without being looked at.
            under_way = StepRun.objects.filter(run=run, state__in=UNDER_WAY)
            under_way.update(state=StepState.CANCELLED, due_at=None, finished_at=work.now)
            work.end(RunState.FAILED, _line(error))
        _store([work])
        return 0


def _in_hand(runs: Iterable[Run]) -> list[Work]:
    """The runs with the rows of their steps that are under way, or that others have ended since."""
    works = [Work(run) for run in runs]
    begun = {uid: (work, place) for work in works for place, uid in work.under_way()}
    if begun:
        for row in StepRun.objects.filter(pk__in=begun):
            work, place = begun[row.pk]
            work.rows[place] = row
        for work in works:
            work.absorb()
    return works


def _assign_slots(works: Sequence[Work]) -> None:
    for work in works:
        if work.plan.definition.concurrency is not None:
            try:
                work.run.slot = concurrency.slot_of(work.plan.definition, work.see())
            except EvaluationError as error:
                work.end(RunState.FAILED, f"concurrency.{error}")
            else:
                work.run.queued = True


def _go(works: Sequence[Work], *, alone: bool = False) -> None:
    """Do steps until every run is at its end or waits. `alone`: an action that fails costs its step, not the batch."""
    if queued := [work for work in works if work.run.queued and work.going]:
        for run in concurrency.admit(queued, [work.run.slot for work in works if work.run.slot]):
            transaction.on_commit(partial(_replace, run), robust=True)
    while True:
        at: dict[tuple[int, int, bool], list[Task]] = {}
        for work in works:
            for task in work.tasks():
                at.setdefault((work.run.version_id, task.node.position, task.waking), []).append(task)
        if not at:
            break
        for place in sorted(at):
            _perform(at[place], alone=alone)
    for work in works:
        work.settle()


def _store(works: Sequence[Work], *, new: bool = False) -> None:
    """Write down what was done, then tell those who wait for it."""
    runs = [work.run for work in works]
    if new:
        bulk.insert(runs)
    else:
        bulk.update(runs, PROGRESS)
    rows = [row for work in works for row in work.changed.values()]
    bulk.insert(row for row in rows if row._state.adding)
    bulk.update([row for row in rows if not row._state.adding], STEP_PROGRESS)
    for lane in {row.lane for row in rows if row.state == StepState.PENDING and row.lane != Lane.ENGINE}:
        ring(STAGES[lane], by=str(rows[0].run_id))
    if any(run.due_at and run.due_at <= work.now for run, work in zip(runs, works, strict=True)):
        ring("workflows.advance", by=str(runs[0].uid))
    start([child for work in works for child in work.children], at_once=False)
    if abandoned := [uid for work in works for uid in work.abandoned]:
        cancel(Run.objects.filter(origin__in=abandoned), reason="the run that waited for it went on without it")
    ended = [run for run in runs if run.finished_at]
    waits.complete({run.origin: _answer(run) for run in ended if run.parent and run.origin})
    concurrency.release(Counter(run.slot for run in ended if run.slot))
    if ended:
        outcomes = Counter((work.plan.definition.name, str(work.run.state)) for work in works if work.run.finished_at)
        transaction.on_commit(lambda: _count(outcomes), robust=True)


def _replace(run: Run) -> None:
    """Take the place of those who were there before. What this misses is done when the run is looked at again."""
    cancel(concurrency.rivals(run), reason=f"replaced by the run {run.uid}")


def _answer(run: Run) -> Answer:
    """What the step that started the run gets for its output."""
    if run.state == RunState.SUCCEEDED:
        outputs = {id_: entry["output"] for id_, entry in run.steps.items() if "output" in entry}
        return Answer({"run": str(run.uid), "state": str(run.state), "outputs": outputs})
    return Answer(error=f"the run {run.uid} {run.state}: {run.error}")


# --- a step ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Doing:
    """A task that is filled and ready for its action."""

    task: Task
    settings: Action
    call: Call


def _perform(tasks: Sequence[Task], *, alone: bool) -> None:
    """Do what several runs, or items of a list, are at: the same step of the same version."""
    now = timezone.now()
    ready = [doing for task in tasks if (doing := _prepare(task, now)) is not None]
    for batch in [[one] for one in ready] if alone else [ready]:
        if batch:
            _attempt(batch, alone=alone)


def _prepare(task: Task, now: datetime) -> _Doing | None:
    """Fill the step's action for this run; None when it is skipped, handed over, or failed for want of a value."""
    settings = fill(task, now)
    if settings is None:
        return None
    if isinstance(settings, Performed) and not task.waking:
        task.work.hand_over(task, settings.lane)
        return None
    return _Doing(task, settings, call_of(task))


def fill(task: Task, now: datetime) -> Action | None:
    """The step's action with its settings for this run; None when it is skipped, or failed for want of a value."""
    work, step, row = task.work, task.step, task.row
    work.now = max(work.now, now)
    try:
        context = work.see((task.node.key, task.item))
        if task.waking:
            if step.timeout and work.has_waited_too_long(task):
                work.fail(task, f"timed out after {format_duration(step.timeout)}", permanent=True)
                return None
        else:
            row.attempts += 1
            if step.condition is not None and (step.items is None or step.asks_each):
                verdict = step.condition.explain(context)
                if not verdict.value:
                    work.skip(task, verdict.reason)
                    return None
            row.input = step.values.render(context) if not step.values.constant else step.with_
        return step.action_class.model_validate(row.input)
    except EvaluationError as error:
        work.fail(task, f"with.{error}", permanent=True)
        return None
    except ValidationError:
        wrong = complaints(step.action_class, row.input)
        work.fail(task, "; ".join(f"{dotted(('with', *at))}: {why}" for at, why in wrong), permanent=True)
    return None


def call_of(task: Task) -> Call:
    """What the action of a task that was just filled is told of its run."""
    work, row = task.work, task.row
    variables = work.see((task.node.key, task.item)).variables
    if task.item is not None:  # an item's variables are its own; those of the run may be shared
        variables = dict(variables)
    name, run = work.plan.definition.name, work.run
    return Call(row.uid, run.uid, name, task.step.id, row.attempts, variables, task.item, run.depth)


def _attempt(batch: Sequence[_Doing], *, alone: bool) -> None:
    step = batch[0].task.step
    try:
        results = _run(step, batch, alone=alone)
    except Exception as error:  # an action is foreign code, and so is the data it meets
        if not alone:
            raise
        raise_if_disconnected(error)
        task = batch[0].task
        if is_transient(error):
            task.work.postpone()
        else:
            task.work.fail(task, _line(error), permanent=isinstance(error, StepError) and error.permanent)
        return
    now = timezone.now()
    for doing, result in zip(batch, results, strict=True):
        task = doing.task
        task.work.now = max(task.work.now, now)
        match result:
            case Wait():
                task.work.wait(task, result)
            case _Started():
                task.work.children.append(result.start)
                if result.wait:
                    task.work.wait(task, Wait())
                else:
                    task.work.succeed(task, {"workflow": result.workflow})
            case Stop():
                task.work.succeed(task, result.output)
                task.work.stop()
            case _:
                task.work.succeed(task, result)


def _run(step: Step, batch: Sequence[_Doing], *, alone: bool) -> list[Json]:
    if alone:
        with transaction.atomic():
            return _run(step, batch, alone=False)
    if not step.timeout:
        return _outputs(step, batch)
    _limit_statements(step.timeout)  # undone with the savepoint when the action raises
    outputs = _outputs(step, batch)
    _limit_statements(None)
    return outputs


def _outputs(step: Step, batch: Sequence[_Doing]) -> list[Json | Turn]:
    if batch[0].task.waking:
        results = [doing.settings.wake(doing.call, doing.task.row.output) for doing in batch]
    else:
        results = step.action_class.run_batch([(doing.settings, doing.call) for doing in batch])
    newest: dict[str, tuple[int, int]] = {}
    return [
        _started(result, doing, newest) if isinstance(result, Child) else result
        for doing, result in zip(batch, results, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Started:
    """A child that is stored, due, with the step that started it."""

    workflow: str
    start: Start
    wait: bool


def _started(child: Child, doing: _Doing, newest: dict[str, tuple[int, int]]) -> _Started:
    name, run = child.workflow, doing.task.work.run
    if run.depth >= MOST_DEPTH:
        raise StepError(
            f"the run is {run.depth} runs and events away from what began it; {MOST_DEPTH} is the end, because "
            "workflows that start each other would never end",
            permanent=True,
        )
    if name not in newest:
        found = Workflow.objects.filter(name=name, enabled=True).annotate(version=Max("versions"))
        newest[name] = found.values_list("pk", "version").first() or (0, 0)
    workflow, version = newest[name]
    if not version:
        raise StepError(f'there is no workflow "{name}" that is enabled and has a version', permanent=True)
    start = Start(
        workflow, version, dict(child.input), doing.call.uid, f"step {doing.call.step}", run.uid, run.depth + 1
    )
    return _Started(name, start, child.wait)


def _limit_statements(timeout: timedelta | None) -> None:
    with connection.cursor() as cursor:
        if timeout is None:
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
        else:
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, true)", [f"{int(timeout.total_seconds() * 1000)}ms"]
            )


def _count(ended: Counter[tuple[str, str]]) -> None:
    for (workflow, state), n in ended.items():
        metrics.count("carillon_runs_total", n, workflow=workflow, state=state)


def _line(error: Exception) -> str:
    """An error as a person reads it: what the step says itself; of other exceptions the kind, too."""
    text = " ".join(str(error).replace("\0", "").split())[:2000]
    return text if isinstance(error, StepError) else f"{type(error).__name__}: {text}"
