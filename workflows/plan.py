"""What a run does next. Pure: a definition and where the run stands go in, a step comes out.

Steps have positions: the workflow's own from 0, its `on_failure` steps after them. A run that is failing (its `error`
is set) is among the latter. Nothing else knows how steps follow each other, so graphs have only this to change.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from workflows.definition import Definition, Step


def next_step(definition: Definition, cursor: int, *, failing: bool) -> Step | None:
    """The step at `cursor`, or None where the run is at its end."""
    own = len(definition.steps)
    if not failing:
        return definition.steps[cursor] if cursor < own else None
    return definition.on_failure[cursor - own] if own <= cursor < own + len(definition.on_failure) else None


def after_failure(definition: Definition, *, failing: bool) -> int | None:
    """Where a run goes on after a step failed for good: its first `on_failure` step; None: nowhere, it ends."""
    return None if failing or not definition.on_failure else len(definition.steps)


def next_attempt(step: Step, attempt: int, *, now: datetime, started_at: datetime) -> datetime | None:
    """When a step that failed for the `attempt`-th time is tried again; None when it is not."""
    delay: timedelta | None = step.retry.delay_after(attempt) if step.retry else None
    if delay is None or (step.timeout and now + delay > started_at + step.timeout):
        return None
    return now + delay
