"""From a link to a decided step: who has the address of an approval sees what it asks, and decides, once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from django.utils import timezone

from workflows import waits
from workflows.models import ACTIVE, UNDER_WAY, Run, RunState, StepRun, StepState
from workflows.scope import step_of
from workflows.waits import Answer

Outcome: TypeAlias = Literal["approved", "rejected"]

MAX_COMMENT: Final = 2000


class Standing(StrEnum):
    """Whether a question can be answered, and if not, why."""

    OPEN = "open"
    NOT_YET = "not yet asked"
    APPROVED = "approved"
    REJECTED = "rejected"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    OVER = "over"  # the run ended, or went on, without it


@dataclass(frozen=True, slots=True)
class Question:
    """An approval of a run, as it stands. `row` is None while it has not begun."""

    run: Run
    step: str
    row: StepRun | None

    @property
    def standing(self) -> Standing:
        row = self.row
        if row is None:
            return Standing.NOT_YET if self.run.state in ACTIVE else _ENDED.get(self.run.state, Standing.OVER)
        if row.state == StepState.WAITING:
            return Standing.TIMED_OUT if row.due_at and row.due_at <= timezone.now() else Standing.OPEN
        if row.state in UNDER_WAY:
            return Standing.NOT_YET
        outcome = row.output.get("outcome") if isinstance(row.output, dict) else None
        if row.state == StepState.SUCCEEDED and outcome in ("approved", "rejected"):
            return Standing(outcome)
        if outcome == "timed_out" or row.error.startswith("timed out"):
            return Standing.TIMED_OUT
        return Standing.CANCELLED if row.state == StepState.CANCELLED else Standing.OVER

    @property
    def comment(self) -> str:
        """What was said to the decision."""
        output = self.row.output if self.row else None
        return str(output.get("comment", "")) if isinstance(output, dict) else ""

    @property
    def until(self) -> datetime | None:
        """When it will be too late."""
        return self.row.due_at if self.row and self.row.state == StepState.WAITING else None

    @property
    def subject(self) -> dict[str, str]:
        """What the run is about, as far as its input says so as events do: type, subject, source, id."""
        given: Any = self.run.input
        known = ("type", "subject", "source", "id")
        return {name: given[name] for name in known if isinstance(given.get(name), str) and given[name]}


_ENDED: Final = {str(RunState.CANCELLED): Standing.CANCELLED}


def question_of(token: str) -> Question | None:
    """The approval that the token names; None when nobody gave it out, or the run is no longer kept."""
    named = step_of(token)
    run = Run.objects.select_related("workflow").filter(pk=named[0]).first() if named else None
    if named is None or run is None:
        return None
    step = named[1]
    rows = StepRun.objects.filter(run=run, step=step).order_by("-round")
    # When the run was retried it forgot the steps that it does again: what they were in an earlier round is no more.
    return Question(run, step, rows.first() if step in run.steps else None)


def decide(question: Question, outcome: Outcome, comment: str = "") -> bool:
    """Take the decision, if the question is open and nobody was quicker; says whether it was taken."""
    if question.row is None or question.standing is not Standing.OPEN:
        return False
    answer = Answer({"outcome": outcome, "comment": comment})
    return question.row.pk in waits.complete({question.row.pk: answer})
