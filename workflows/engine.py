"""From runs that are ready to runs that are done or due again, many at once.

A step's effect in the database and the record that it is done are one commit, so it takes effect exactly once, whatever
dies when. All runs of a batch that are at the same step are handed to its action together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.utils import timezone
from pydantic import ValidationError

from project import bulk, metrics
from project.batch import is_transient, raise_if_disconnected, together_or_alone
from project.doorbell import ring
from project.durations import format_duration
from project.expressions import Context, EvaluationError, make_context
from project.fields import complaints, dotted
from project.identifiers import new_uid
from workflows import plan
from workflows.actions.base import Action, Call, Json, StepError
from workflows.definition import Definition, Step
from workflows.models import Run, RunState, StepRun, StepState
from workflows.publishing import load

log = structlog.get_logger(__name__)

BATCH: Final = 100
NOT_NOW: Final = timedelta(seconds=2)
PROGRESS: Final = ("state", "steps", "cursor", "error", "due_at", "finished_at")
STEP_PROGRESS: Final = ("state", "attempts", "input", "output", "error", "finished_at")


@dataclass(frozen=True, slots=True)
class Start:
    """What starts a run: a workflow and its version (their primary keys), and the document to work on."""

    workflow: int
    version: int
    input: dict[str, Json]
    origin: UUID | None = None
    trigger: str = ""


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
            Run(
                uid=new_uid(),
                workflow_id=start.workflow,
                version_id=start.version,
                input=start.input,
                origin=start.origin,
                trigger=start.trigger,
                due_at=now,
                started_at=now,
            )
        )
        for start in starts
    ]
    if at_once:
        _go(works)
    else:
        ring("workflows.advance", by=str(works[0].run.uid))
    runs = [work.run for work in works]
    bulk.insert(runs)
    _record_steps(works)
    return runs


def advance() -> dict[str, int]:
    """Do what is ready for one batch of due runs; says how many runs and steps."""
    with transaction.atomic():
        runs = Run.objects.claim(BATCH)
        if not runs:
            return {}
        steps = sum(together_or_alone(runs, _advance, _advance_alone))
    return {"runs": len(runs), "steps": steps}


def _advance(runs: Sequence[Run], *, alone: bool = False) -> int:
    works = [Work(run) for run in runs]
    _go(works, alone=alone)
    bulk.update([work.run for work in works], PROGRESS)
    _record_steps(works)
    return sum(len(work.done) for work in works)


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
            work.end(RunState.FAILED, _line(error))
        bulk.update([run], PROGRESS)
        return 0


class Work:
    """A run in hand, with what its steps did in this transaction. Its methods are all that moves runs and steps."""

    __slots__ = ("context", "definition", "done", "going", "now", "run", "stale")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.definition: Definition = load(run.version_id)
        self.context: Context | None = None
        self.done: list[StepRun] = []
        self.going = True
        self.stale = False
        self.now = timezone.now()

    @property
    def failing(self) -> bool:
        return bool(self.run.error)

    def next_step(self) -> Step | None:
        """The step to do now. Ends the run when there is none left, and turns to `on_failure` when its time is over."""
        deadline = self.deadline
        if deadline and self.now >= deadline and not self.failing:
            self._fail_run(f"timed out after {format_duration(self.definition.timeout or timedelta())}")
        step = plan.next_step(self.definition, self.run.cursor, failing=self.failing) if self.going else None
        if step is None and self.going:
            self.end(RunState.FAILED if self.failing else RunState.SUCCEEDED)
        return step

    @property
    def deadline(self) -> datetime | None:
        return self.run.started_at + self.definition.timeout if self.definition.timeout else None

    def begin(self, step: Step) -> StepRun:
        """The step's row: a new one, or the one of its earlier attempts."""
        before = self.run.steps.get(step.id, {})
        return StepRun(
            uid=UUID(before["uid"]) if before else new_uid(),
            run=self.run,
            step=step.id,
            position=self.run.cursor,
            action=step.action,
            state=StepState.RUNNING,
            attempts=before.get("attempts", 0) + 1,
            started_at=datetime.fromisoformat(before["started_at"]) if before else self.now,
        )

    def see(self) -> Context:
        """What expressions and templates see: `event`, `steps`, `run`, and `failure` when the run is failing."""
        if self.context is None:
            run = self.run
            self.context = make_context(
                event=run.input,
                steps=run.steps,
                run={"uid": str(run.uid), "version": run.version_id, "started_at": run.started_at},
                failure=run.steps.get(FAILURE, {}),
            )
        elif self.stale:
            self.context.set("steps", self.run.steps)
        self.stale = False
        return self.context

    def succeed(self, row: StepRun, output: Json) -> None:
        self._finish(row, StepState.SUCCEEDED, output=output)
        self.run.cursor += 1

    def skip(self, row: StepRun, reason: str) -> None:
        row.attempts = 0
        self._finish(row, StepState.SKIPPED, output={"reason": reason})
        self.run.cursor += 1

    def fail(self, step: Step, row: StepRun, message: str, *, permanent: bool) -> None:
        """Record a failed attempt: the step is tried again later, or failed, and with it the run if it must."""
        again = (
            None
            if permanent
            else plan.next_attempt(step, row.attempts, now=self.now, started_at=row.started_at or self.now)
        )
        if again:
            self._retry(row, message, again)
            return
        self._finish(row, StepState.FAILED, error=message)
        if step.on_error == "continue":
            self.run.cursor += 1
        else:
            self._fail_run(f"{step.id}: {message}", step.id)

    def postpone(self) -> None:
        """Leave everything as it was and look again in a moment."""
        self.run.due_at, self.going = self.now + NOT_NOW, False

    def end(self, state: RunState, error: str = "") -> None:
        self.run.state, self.run.due_at, self.run.finished_at = state, None, self.now
        self.run.error = self.run.error or error
        self.going = False

    def _retry(self, row: StepRun, message: str, again: datetime) -> None:
        row.state, row.error = StepState.PENDING, message
        self.done.append(row)
        self.run.steps[row.step] = {
            "state": row.state,
            "uid": str(row.uid),
            "attempts": row.attempts,
            "started_at": row.started_at.isoformat() if row.started_at else "",
            "error": message,
        }
        self.run.due_at = min(again, self.deadline) if self.deadline else again
        self.going = False

    def _finish(self, row: StepRun, state: StepState, *, output: Json = None, error: str = "") -> None:
        row.state, row.output, row.error, row.finished_at = state, output, error, self.now
        self.done.append(row)
        self.run.steps[row.step] = {"state": state.value, "output": output, **({"error": error} if error else {})}
        self.stale = True

    def _fail_run(self, error: str, step: str = "") -> None:
        onwards = plan.after_failure(self.definition, failing=self.failing)
        self.run.error = self.run.error or error
        if onwards is None:
            self.end(RunState.FAILED)
            return
        self.run.cursor = onwards
        self.run.steps[FAILURE] = {"step": step, "error": error}
        self.context = None


FAILURE: Final = "$failure"  # beside the steps' outcomes; no step can have this id


def _go(works: Sequence[Work], *, alone: bool = False) -> None:
    """Do steps until every run is at its end or waits. `alone`: an action that fails costs its step, not the batch."""
    going: Iterable[Work] = works
    while True:
        at: dict[int, tuple[Step, list[Work]]] = {}
        for work in going:
            if (step := work.next_step()) is not None:
                at.setdefault(id(step), (step, []))[1].append(work)
        if not at:
            break
        for step, here in at.values():
            _perform(step, here, alone=alone)
        going = [work for _, here in at.values() for work in here if work.going]
    ended = Counter((work.definition.name, str(work.run.state)) for work in works if work.run.finished_at)
    transaction.on_commit(lambda: _count(ended), robust=True)


def _perform(step: Step, works: Sequence[Work], *, alone: bool) -> None:
    calls: list[tuple[Work, StepRun, Action, Call]] = []
    now = timezone.now()
    for work in works:
        work.now = now
        row = work.begin(step)
        settings = _settings(step, work, row)
        if settings is not None:
            call = Call(row.uid, work.run.uid, step.id, row.attempts, work.see().variables)
            calls.append((work, row, settings, call))
    if not calls:
        return
    try:
        outputs = _run(step, [(settings, call) for _, _, settings, call in calls], alone=alone)
    except Exception as error:  # an action is foreign code, and so is the data it meets
        if not alone:
            raise
        raise_if_disconnected(error)
        ((work, row, _, _),) = calls
        if is_transient(error):
            work.postpone()
        else:
            work.fail(step, row, _line(error), permanent=isinstance(error, StepError) and error.permanent)
        return
    now = timezone.now()
    for (work, row, _, _), output in zip(calls, outputs, strict=True):
        work.now = now
        work.succeed(row, output)


def _settings(step: Step, work: Work, row: StepRun) -> Action | None:
    """The step's action, filled for this run; None when the step is skipped, or failed for want of a value."""
    try:
        if step.condition is not None:
            verdict = step.condition.explain(work.see())
            if not verdict.value:
                work.skip(row, verdict.reason)
                return None
        row.input = step.values.render(work.see()) if not step.values.constant else step.with_
        return step.action_class.model_validate(row.input)
    except EvaluationError as error:
        work.fail(step, row, f"with.{error}", permanent=True)
    except ValidationError:
        wrong = complaints(step.action_class, row.input)
        work.fail(step, row, "; ".join(f"{dotted(('with', *at))}: {why}" for at, why in wrong), permanent=True)
    return None


def _run(step: Step, calls: Sequence[tuple[Action, Call]], *, alone: bool) -> list[Json]:
    if alone:
        with transaction.atomic():
            return _run(step, calls, alone=False)
    if not step.timeout:
        return step.action_class.run_batch(calls)
    _limit_statements(step.timeout)  # undone with the savepoint when the action raises
    outputs = step.action_class.run_batch(calls)
    _limit_statements(None)
    return outputs


def _limit_statements(timeout: timedelta | None) -> None:
    with connection.cursor() as cursor:
        if timeout is None:
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
        else:
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, true)", [f"{int(timeout.total_seconds() * 1000)}ms"]
            )


def _record_steps(works: Sequence[Work]) -> None:
    rows = [row for work in works for row in work.done]
    bulk.insert(row for row in rows if row.attempts <= 1)
    bulk.update([row for row in rows if row.attempts > 1], STEP_PROGRESS)


def _count(ended: Counter[tuple[str, str]]) -> None:
    for (workflow, state), n in ended.items():
        metrics.count("carillon_runs_total", n, workflow=workflow, state=state)


def _line(error: Exception) -> str:
    """An error as a person reads it: what the step says itself; of other exceptions the kind, too."""
    text = " ".join(str(error).replace("\0", "").split())[:2000]
    return text if isinstance(error, StepError) else f"{type(error).__name__}: {text}"
