"""From a foreign task's answer to the step that waits for it, also one that is faster than the record of the wait."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from workflows.models import StepRun, StepState
from workflows.waits import Answer, complete

_EARLY = "$answer"  # in the output of a step that does not wait yet


def answer(step: UUID, given: Answer) -> bool:
    """End the step that waits for this; returns whether anybody did.

    The far side may answer before the performer has recorded that the step waits. Then the answer is kept with the
    step, and `early` finds it. A step that is at its end, or not there, takes none.
    """
    with transaction.atomic():
        row = StepRun.objects.select_for_update(no_key=True).filter(pk=step).first()
        if row is None:
            return False
        if row.state in (StepState.PENDING, StepState.RUNNING):
            row.output = {_EARLY: {"output": given.output, "error": given.error}}
            row.save(update_fields=["output"])
            return True
    # Not under the lock of the step: `complete` takes that of the run first.
    return bool(complete({step: given}))


def early(row: StepRun) -> Answer | None:
    """The answer that came before the step waited. The row must be locked."""
    kept = row.output.get(_EARLY) if isinstance(row.output, dict) else None
    return Answer(**kept) if isinstance(kept, dict) else None
