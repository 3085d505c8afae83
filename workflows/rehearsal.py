"""A test run: what a workflow would do with an event, step by step. Nothing is sent, and nothing is stored.

The steps follow each other by the engine's own code: conditions, `with`, loops, `on_error`, `undo` and `on_failure`.
In place of doing a step its action tells what it would do (`Action.rehearse`). All of it happens in one transaction
that PostgreSQL itself keeps from writing: no trigger fires, no sequence moves, and no row is locked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from pydantic import BaseModel, ConfigDict, TypeAdapter

from project import bulk
from project.identifiers import new_uid
from workflows import engine
from workflows.actions.base import Rehearsal, StepError
from workflows.definition import Definition
from workflows.models import Run, StepRun, StepState
from workflows.plan import Plan
from workflows.work import Task, Work

Json: TypeAlias = Any

MOST_STEPS: Final = 500  # steps and items that a test run goes through
SECONDS: Final = 5.0
SLOWEST: Final = 2_000  # milliseconds for one statement


class Given(BaseModel):
    """What somebody says a step leaves, in place of what its action makes up."""

    model_config = ConfigDict(extra="forbid")

    output: Json = None
    error: str = ""


given_outcomes: Final = TypeAdapter(dict[str, Given])
"""By the ids of steps; every item of a loop leaves the same."""


@dataclass(slots=True)
class Told:
    """A step, or an item of its list, as the test run went through it."""

    row: StepRun
    rehearsal: Rehearsal | None = None  # None: it was skipped, or failed before there was anything to do
    given: bool = False

    @property
    def known(self) -> str:
        """What its output is: given, sure, an example, unknown; empty where it has none."""
        if self.row.state != StepState.SUCCEEDED or self.rehearsal is None:
            return ""
        return "given" if self.given else self.rehearsal.known

    @property
    def output(self) -> str:
        """Its output as JSON, for scripts."""
        return json.dumps(self.row.output, ensure_ascii=False, default=str)


@dataclass(slots=True)
class Story:
    """What a test run told."""

    run: Run
    steps: list[Told] = field(default_factory=list)
    cut: str = ""  # why it was broken off

    @property
    def states(self) -> dict[str, str]:
        """The state in which each step was left, by its id."""
        return {id_: entry["state"] for id_, entry in self.run.steps.items() if "state" in entry}

    @property
    def unknown(self) -> list[str]:
        """The steps whose output nobody knows; later steps see null."""
        return list(dict.fromkeys(told.row.step for told in self.steps if told.known == "unknown"))


def rehearse(definition: Definition, event: Mapping[str, Json], given: Mapping[str, Given] | None = None) -> Story:
    """Go through the definition for this event; never raises for what a definition, an event or an action brings."""
    work = Work(_run(event), plan=Plan(definition))
    story = Story(work.run)
    rehearsed: dict[UUID, Told] = {}
    with _read_only():
        ends = time.monotonic() + SECONDS
        while not story.cut and (tasks := work.tasks()):
            for task in tasks:
                if len(work.changed) >= MOST_STEPS or time.monotonic() > ends:
                    story.cut = f"The test run ends here, after {len(work.changed)} steps; a real one would go on."
                    break
                rehearsed[task.row.uid] = _rehearse(task, (given or {}).get(task.step.id))
    story.steps = [rehearsed.get(row.uid, Told(row)) for row in work.changed.values()]
    return story


def _run(event: Mapping[str, Json]) -> Run:
    """A run that is never stored."""
    now = timezone.now()
    return bulk.new(Run, uid=new_uid(), input=dict(event), trigger="test run", due_at=now, started_at=now)


def _rehearse(task: Task, given: Given | None) -> Told:
    told = Told(task.row, given=given is not None)
    settings = engine.fill(task, timezone.now())
    if settings is None:
        return told
    try:
        with transaction.atomic():  # what fails in the database must not take the others along
            told.rehearsal = settings.rehearse(engine.call_of(task))
    except StepError as error:
        task.work.fail(task, str(error), permanent=True)
    except Exception as error:  # an action is foreign code, and so is the data it meets
        task.work.fail(task, f"{type(error).__name__}: {' '.join(str(error).split())}", permanent=True)
    else:
        if given is not None and given.error:
            task.work.fail(task, given.error, permanent=True)
        else:
            task.work.succeed(task, given.output if given is not None else told.rehearsal.output)
    return told


@contextmanager
def _read_only() -> Iterator[None]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(SLOWEST)])
        yield
