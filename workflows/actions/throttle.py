"""`throttle`: let runs with the same key pass at a bounded rate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, Self

from django.utils import timezone
from pydantic import AfterValidator, Field

from project import bulk
from project.durations import Duration, format_duration
from workflows import gates
from workflows.actions import Action, Call, Wait, action
from workflows.actions.base import Json, Key, Rehearsal, Turn, longer_than_nothing

LATE: Final = timedelta(seconds=5)  # by which a turn may be taken after its time


@action("throttle")
class Throttle(Action):
    """Lets at most `limit` runs with this `key` pass in any span of `per`; the others wait for their turn, in order.

    Output: {"at": when it passed}.
    """

    key: Key = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 1
    per: Annotated[Duration, AfterValidator(longer_than_nothing)]

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        keys = [call.gate(one.key) for one, call in calls]
        held = gates.hold(keys)
        now = timezone.now()
        turns: list[Json] = []
        for key, (one, _) in zip(keys, calls, strict=True):
            gate = held[key]
            passes = [datetime.fromisoformat(at) for at in gate.value.get("passes", ())]
            at = max(now, passes[-one.limit] + one.per) if len(passes) >= one.limit else now
            passes = [*passes, at][-one.limit :]
            gate.value, gate.due_at = {"passes": [each.isoformat() for each in passes]}, at + one.per
            output = {"at": at.isoformat()}
            turns.append(Wait(at, output) if at > now else output)
        bulk.update(list(held.values()), ("value", "due_at"))
        return turns

    def wake(self, call: Call, output: Json) -> Json | Turn:
        if timezone.now() - datetime.fromisoformat(output["at"]) <= LATE:
            return output
        # Everything stood still. The turns that were missed are given out anew: else all of them would pass at once.
        (turn,) = self.run_batch([(self, call)])
        return turn

    def rehearse(self, call: Call) -> Rehearsal:
        would = f"pass, or wait for its turn: {self.limit} in {format_duration(self.per)}"
        return Rehearsal(would, {"at": timezone.now().isoformat()}, "example")
