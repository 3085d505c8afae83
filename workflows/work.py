"""A run in hand: what can be done for it now, and what became of it. Its methods are all that moves runs and steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.db.models.functions import Now
from django.utils import timezone

from project import bulk
from project.durations import format_duration
from project.expressions import Context, EvaluationError
from project.identifiers import new_uid
from workflows import plan
from workflows.actions.base import Json, Wait
from workflows.definition import MAX_ITEMS, UNDOES, Step
from workflows.models import UNDER_WAY, Lane, Run, RunState, StepRun, StepState
from workflows.plan import Node, Plan
from workflows.publishing import load
from workflows.scope import FAILURE, scope

Place: TypeAlias = tuple[str, int | None]  # a step's id, and the item of its list

NOT_NOW: Final = timedelta(seconds=2)


@lru_cache(maxsize=1024)
def _plan(version: int) -> Plan:
    return Plan(load(version))


@dataclass(slots=True)
class Task:
    """Something to do now: begin a step (for one item of its list), try it again, or wake it."""

    work: Work
    node: Node
    item: int | None
    row: StepRun
    waking: bool = False

    @property
    def step(self) -> Step:
        return self.node.step


@dataclass(frozen=True, slots=True)
class Start:
    """What starts a run: a workflow and its version (their primary keys), and the document to work on."""

    workflow: int
    version: int
    input: dict[str, Json]
    origin: UUID | None = None
    trigger: str = ""
    parent: UUID | None = None
    depth: int = 0
    replay: int = 0
    context: Context | None = None  # the input as `event`, where it was converted already; no two runs may share one


class Work:
    """A run, the rows of its steps that are under way, and what was done for it in this transaction."""

    __slots__ = (
        *("_lists", "_stale", "_touched", "_with_event", "abandoned", "changed", "children", "context", "going", "now"),
        *("plan", "postponed", "rows", "run", "stopped"),
    )

    def __init__(self, run: Run, with_event: Context | None = None, *, plan: Plan | None = None) -> None:
        self.run = run
        self.plan: Plan = plan or _plan(run.version_id)
        self.rows: dict[Place, StepRun] = {}
        self.changed: dict[UUID, StepRun] = {}
        self.children: list[Start] = []  # the runs that its steps start
        self.abandoned: list[UUID] = []  # steps that no longer wait
        self.context: Context | None = None
        self.going = True
        self.postponed = False
        self.stopped = False
        # Never before the time the run was claimed for: PostgreSQL's clock, which said that it has come, may be ahead.
        self.now = max(timezone.now(), run.due_at) if run.due_at else timezone.now()
        self._with_event = with_event
        self._stale = False
        self._touched: list[Node] = []
        self._lists: dict[str, Sequence[Json]] = {}

    @property
    def failing(self) -> bool:
        return bool(self.run.error)

    @property
    def deadline(self) -> datetime | None:
        timeout = self.plan.definition.timeout
        return self.run.started_at + timeout if timeout and not self.failing else None

    def see(self, item: Place | None = None) -> Context:
        """What expressions and templates see; for an item of a loop also `item` and `index`."""
        if self.context is None:
            self.context, self._with_event = scope(self.run, self.plan.definition, self._with_event), None
        elif self._stale:
            self.context.set("steps", self.run.steps)
        self._stale = False
        if item is not None and item[1] is not None:
            self.context.set("item", self._list(self.plan.node(item[0]).step)[item[1]])
            self.context.set("index", item[1])
        return self.context

    # --- what to do now ----------------------------------------------------------------------------------------------

    def under_way(self) -> Iterator[tuple[Place, UUID]]:
        """The steps that have begun and not ended when the run was last stored, with the uids of their rows."""
        for id_, entry in self.run.steps.items():
            if "items" in entry:
                for item, each in entry["items"].items():
                    if plan.is_under_way(each):
                        yield (id_, int(item)), UUID(each["uid"])
            elif plan.is_under_way(entry):
                yield (id_, None), UUID(entry["uid"])

    def absorb(self) -> None:
        """Take over what others have recorded of the steps since: performers, and who answered a step that waits."""
        for (id_, item), row in list(self.rows.items()):
            if row.state in UNDER_WAY:
                self._enter(self.plan.node(id_), item, row)
            else:
                self._end(self.plan.node(id_), item, row)
        if self.failing:  # what failed meanwhile is not tried again; what takes back, and what follows, is
            own = {node.key for node in self.plan.nodes}
            self._cancel(place for place in self.rows if place[0] in own)

    def tasks(self) -> list[Task]:
        """What can be done now. Ends the run when it has nothing left to do, and turns it when it fails."""
        while self.going:
            self._conclude()
            if self.deadline and self.now >= self.deadline:
                self._fail_run(f"timed out after {format_duration(self.plan.definition.timeout or timedelta())}")
            if not self.going:
                break
            if self._touched:  # what was broken off comes to its end before something is taken back
                continue
            if tasks := [*self._due(), *self._begin()]:
                return tasks
            if not self._touched:
                if not self.rows:
                    self.end(RunState.FAILED if self.failing else RunState.SUCCEEDED)
                break
        return []

    def _due(self) -> Iterator[Task]:
        for (id_, item), row in self.rows.items():
            # What was changed in this transaction is looked at again after its commit.
            if row.lane == Lane.ENGINE and row.uid not in self.changed and row.state in UNDER_WAY:
                if row.due_at is None and row.state == StepState.WAITING:
                    continue
                if row.due_at is None or row.due_at <= self.now:
                    yield Task(self, self.plan.node(id_), item, row, waking=row.state == StepState.WAITING)

    def _begin(self) -> list[Task]:
        if self.failing:
            # What runs outside may still succeed, and must then be undone as well.
            recovery = None if self.rows else self.plan.recovery(self.run.steps)
            nodes = [recovery] if recovery else []
        else:
            nodes = list(self.plan.ready(self.run.steps))
        tasks = []
        for node in nodes:
            for item in self._items(node):
                place = (node.key, item)
                if place not in self.rows:
                    tasks.append(Task(self, node, item, self._new_row(node, item)))
        return tasks

    def _items(self, node: Node) -> Sequence[int | None]:
        """The items to begin now; of a step that does not loop, the one None."""
        if node.step.items is None:
            return [None]
        if node.key not in self.run.steps:
            self._open(node)
        return plan.items_to_begin(node.step, self.run.steps[node.key])

    def _open(self, node: Node) -> None:
        """Begin a loop: learn its list, and end it where there is nothing to do."""
        row = self._new_row(node, None)
        try:
            if node.step.condition is not None and not node.step.asks_each:
                verdict = node.step.condition.explain(self.see())
                if not verdict.value:
                    self.skip(Task(self, node, None, row), verdict.reason)
                    return
            items = self._list(node.step)
        except EvaluationError as error:
            self.fail(Task(self, node, None, row), f"for_each: {error}", permanent=True)
            return
        order = list(range(len(items)))
        if node.key.endswith(UNDOES):
            done = self.run.steps[node.key.removesuffix(UNDOES)]
            order = list(reversed(done.get("done", order)))
        if not order:
            self._finish(Task(self, node, None, row), StepState.SUCCEEDED, output=[])
            return
        self.run.steps[node.key] = {"state": StepState.RUNNING.value, "order": order, "items": {}}

    def _list(self, step: Step) -> Sequence[Json]:
        """The step's list. Raises EvaluationError."""
        items = self._lists.get(step.id)
        if items is None:
            assert step.items is not None
            items = step.items.render(self.see())
            if not isinstance(items, list):
                raise EvaluationError("is no list")
            if len(items) > MAX_ITEMS:
                raise EvaluationError(f"has {len(items)} items; at most {MAX_ITEMS} are allowed")
            self._lists[step.id] = items
        return items

    def _new_row(self, node: Node, item: int | None) -> StepRun:
        return bulk.new(
            StepRun,
            uid=new_uid(),
            run_id=self.run.uid,
            step=node.key,
            position=node.position,
            item=item,
            round=self.run.round,
            action=node.step.action,
            state=StepState.RUNNING,
            started_at=self.now,
        )

    # --- what became of it -------------------------------------------------------------------------------------------

    def succeed(self, task: Task, output: Json) -> None:
        self._finish(task, StepState.SUCCEEDED, output=output)

    def skip(self, task: Task, reason: str) -> None:
        task.row.attempts = 0
        self._finish(task, StepState.SKIPPED, output={"reason": reason})

    def fail(self, task: Task, message: str, *, permanent: bool) -> None:
        """Record a failed attempt: the step is tried again later, or failed, and with it the run if it must."""
        row, step = task.row, task.step
        started_at = row.started_at or self.now
        again = None if permanent else plan.next_attempt(step, row.attempts, now=self.now, started_at=started_at)
        if again is None:
            self._finish(task, StepState.FAILED, error=message)
            return
        row.state, row.error, row.due_at = StepState.PENDING, message, again
        row.turn(self.now)
        self._keep(task)

    def hand_over(self, task: Task, lane: str) -> None:
        """Leave the step to the performers of this lane, after the commit; they count the attempts."""
        row = task.row
        row.state, row.lane, row.due_at, row.attempts = StepState.PENDING, lane, self.now, 0
        self._keep(task)

    def wait(self, task: Task, wait: Wait) -> None:
        """Wait for what the action waits for, or the end of the step's `timeout`."""
        row = task.row
        limit = self._limit(task)
        row.state, row.output = StepState.WAITING, wait.output
        row.due_at = min(filter(None, (wait.until, limit)), default=None)
        row.turn(self.now)
        self._keep(task)

    def has_waited_too_long(self, task: Task) -> bool:
        limit = self._limit(task)
        return limit is not None and task.row.due_at is not None and task.row.due_at >= limit

    def _limit(self, task: Task) -> datetime | None:
        timeout, started_at = task.step.timeout, task.row.started_at
        return started_at + timeout if timeout and started_at else None

    def stop(self) -> None:
        """End the run, succeeded, as soon as what is done at the same time is recorded."""
        self.stopped = True

    def postpone(self) -> None:
        """Leave everything as it was and look again in a moment."""
        self.run.due_at, self.going, self.postponed = self.now + NOT_NOW, False, True

    def hold_back(self, until: datetime | None) -> None:
        """Do not begin yet."""
        self.run.state, self.run.due_at = RunState.WAITING, until
        self.going, self.postponed = False, True

    def admit(self) -> None:
        """Begin: there is room under the run's concurrency key."""
        self.run.queued, self.run.state, self.run.started_at = False, RunState.RUNNING, self.now

    def begin_again(self) -> None:
        """Go on from where the run failed: forget what did not succeed, what was taken back, and the way it ended."""
        run, steps = self.run, self.run.steps
        kept: dict[str, Any] = {}
        for node in self.plan.nodes:
            entry, undone = steps.get(node.key), steps.get(f"{node.key}{UNDOES}", {})
            if entry is None or (node.step.items is None and undone.get("state") == StepState.SUCCEEDED):
                continue
            taken_back = plan.items_done(undone)
            if not taken_back and (
                entry["state"] in (StepState.SUCCEEDED, StepState.SKIPPED)
                or (entry["state"] == StepState.FAILED and node.step.on_error == "continue")
            ):
                kept[node.key] = entry
            elif done := {at: each for at, each in plan.items_done(entry).items() if at not in taken_back}:
                kept[node.key] = {"state": StepState.RUNNING.value, "order": plan.order_of(entry), "items": done}
        run.steps, run.round = kept, run.round + 1
        run.state, run.error, run.finished_at = RunState.RUNNING, "", None
        run.due_at = run.started_at = self.now
        run.queued = bool(run.slot)

    def cancel(self, reason: str) -> None:
        """End the run where it stands."""
        self._cancel(self.rows, also_running=True)
        self.end(RunState.CANCELLED, reason)

    def end(self, state: RunState, error: str = "") -> None:
        self.run.state, self.run.due_at, self.run.finished_at = state, None, self.now
        self.run.error = self.run.error or error
        self.going = False

    def settle(self) -> None:
        """Say when the run is to be looked at again."""
        if self.run.finished_at or self.postponed:
            return
        times = [row.due_at for row in self.rows.values() if row.lane == Lane.ENGINE and row.due_at]
        if self.deadline:
            times.append(self.deadline)
        self.run.due_at = min(times, default=None)
        waiting = self.rows and all(row.state == StepState.WAITING for row in self.rows.values())
        self.run.state = RunState.WAITING if waiting else RunState.RUNNING

    def _keep(self, task: Task) -> None:
        """The step is under way when this transaction ends."""
        self.rows[task.node.key, task.item] = task.row
        self.changed[task.row.uid] = task.row
        self._enter(task.node, task.item, task.row)

    def _finish(self, task: Task, state: StepState, *, output: Json = None, error: str = "") -> None:
        row = task.row
        if row.state == StepState.WAITING and state != StepState.SUCCEEDED:
            self.abandoned.append(row.uid)
        row.state, row.output, row.error, row.finished_at, row.due_at = state, output, error, self.now, None
        self.changed[row.uid] = row
        self._end(task.node, task.item, row)

    def _end(self, node: Node, item: int | None, row: StepRun) -> None:
        self.rows.pop((node.key, item), None)
        entry: dict[str, Json] = {"state": str(row.state), "output": row.output}
        if row.error:
            entry["error"] = row.error
        if isinstance(row.output, dict) and "outcome" in row.output:
            entry["outcome"] = row.output["outcome"]
        self._leave(node, item, entry)

    def _enter(self, node: Node, item: int | None, row: StepRun) -> None:
        self._leave(node, item, {"state": str(row.state), "uid": str(row.uid)})

    def _leave(self, node: Node, item: int | None, entry: dict[str, Json]) -> None:
        if item is None:
            self.run.steps[node.key] = entry
        else:
            self.run.steps[node.key]["items"][str(item)] = entry
        self._stale = True
        self._touched.append(node)

    # --- what follows ------------------------------------------------------------------------------------------------

    def _conclude(self) -> None:
        """What the steps that were done together mean for their loops, and for the run."""
        touched, self._touched = self._touched, []
        for node in touched:
            if "items" in self.run.steps[node.key]:
                self._close(node, self.run.steps[node.key])
            entry = self.run.steps[node.key]
            if entry["state"] == StepState.FAILED and node.step.on_error == "fail" and "items" not in entry:
                if node.position >= len(self.plan.nodes):
                    self.end(RunState.FAILED)
                elif not self.failing:
                    self._fail_run(f"{node.key}: {entry.get('error', '')}", node.key)
        if self.stopped and not self.failing:
            self._cancel(self.rows, also_running=True)
            self.end(RunState.SUCCEEDED)

    def _close(self, node: Node, loop: dict[str, Any]) -> None:
        """End a loop whose items have all ended, or one of which failed for good, or that its run broke off."""
        items: Mapping[str, Any] = loop["items"]
        halted = plan.halted(node.step, loop)
        if halted:
            self._cancel({place: row for place, row in self.rows.items() if place[0] == node.key})
        broken_off = self.failing and node.position < len(self.plan.nodes)
        if any(map(plan.is_under_way, items.values())):
            return
        if len(items) < len(loop["order"]) and not halted and not broken_off:
            return
        of = {state: [int(at) for at, each in items.items() if each["state"] == state] for state in plan.ENDED}
        errors = {str(at): items[str(at)].get("error", "") for at in of["failed"]}
        state = StepState.FAILED if errors else StepState.SUCCEEDED
        if broken_off and not halted and (of["cancelled"] or len(items) < len(loop["order"])):
            state = StepState.CANCELLED
        entry: dict[str, Json] = {
            "state": state.value,
            "output": [items.get(str(at), {}).get("output") for at in sorted(loop["order"])],
        }
        if errors:
            first = min(of["failed"])
            entry["errors"], entry["error"] = errors, f"item {first}: {errors[str(first)]}"
        if errors or node.step.undo or node.key.endswith(UNDOES) or len(of["succeeded"]) < len(loop["order"]):
            entry["done"] = sorted(of["succeeded"])
        self.run.steps[node.key] = entry

    def _fail_run(self, error: str, step: str = "") -> None:
        self.run.error = error
        self.run.steps[FAILURE] = {"step": step, "error": error}
        self.context = None
        self._cancel(self.rows)
        self._touched += [node for node in self.plan.nodes if "items" in self.run.steps.get(node.key, {})]

    def _cancel(self, places: Iterable[Place], *, also_running: bool = False) -> None:
        """Break off these steps. One that a performer has in hand goes on to its outcome, unless it is not wanted."""
        for id_, item in list(places):
            row = self.rows[id_, item]
            task = Task(self, self.plan.node(id_), item, row)
            if row.lane == Lane.ENGINE or row._state.adding or also_running:
                self._finish(task, StepState.CANCELLED, error=row.error)
            # A performer may claim it at this moment, and does not ask for the run first.
            elif row.state == StepState.PENDING and self._withdraw(row):
                row.state = StepState.CANCELLED
                self._end(task.node, item, row)

    def _withdraw(self, row: StepRun) -> bool:
        untaken = StepRun.objects.filter(pk=row.pk, state=StepState.PENDING)
        return untaken.update(state=StepState.CANCELLED, due_at=None, finished_at=Now()) == 1
