"""`debounce`: of many runs in a row, only the last one goes on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, Self

from django.utils import timezone
from pydantic import AfterValidator

from project import bulk
from project.durations import Duration, format_duration
from workflows import gates
from workflows.actions import Action, Call, Stop, Wait, action
from workflows.actions.base import Json, Key, Rehearsal, Turn, longer_than_nothing

KEPT: Final = timedelta(days=1)  # how long a gate outlives its time


@action("debounce")
class Debounce(Action):
    """Waits until no other run with this `key` has come for `quiet`; a run that another one followed ends here.

    With `at_most`, one goes on that long after the first came, however many follow. Output: {"runs": how many came}, or
    of a run that ends here {"superseded_by": the step run that followed}.
    """

    key: Key = ""
    quiet: Annotated[Duration, AfterValidator(longer_than_nothing)]
    at_most: Annotated[Duration, AfterValidator(longer_than_nothing)] | None = None

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        keys = [call.gate(one.key) for one, call in calls]
        held = gates.hold(keys)
        now = timezone.now()
        turns: list[Json] = []
        for key, (one, call) in zip(keys, calls, strict=True):
            gate = held[key]
            # What is over (its last run may have been cancelled) is no part of this row of runs.
            before = gate.value if gate.due_at and gate.due_at - KEPT > now else {}
            since = datetime.fromisoformat(before["since"]) if before else now
            until = min(now + one.quiet, since + one.at_most) if one.at_most else now + one.quiet
            runs = before.get("runs", 0) + 1
            gate.value = {"last": str(call.uid), "since": since.isoformat(), "runs": runs}
            gate.due_at = max(now, until) + KEPT
            turns.append(Wait(max(now, until)))
        bulk.update(list(held.values()), ("value", "due_at"))
        return turns

    def wake(self, call: Call, output: Json) -> Json | Turn:
        key = call.gate(self.key)
        gate = gates.hold([key])[key]
        if gate.value.get("last", str(call.uid)) != str(call.uid):
            return Stop({"superseded_by": gate.value["last"]})
        # It stays, for those who are superseded and come to it later; for new ones it is over.
        gate.due_at = timezone.now() + KEPT
        gate.save(update_fields=["due_at"])
        return {"runs": gate.value.get("runs", 1)}

    def rehearse(self, call: Call) -> Rehearsal:
        would = f"wait until no other run has come for {format_duration(self.quiet)}, and end if one came"
        return Rehearsal(would, {"runs": 1}, "example")
