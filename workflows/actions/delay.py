"""`delay`: go on later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated

from django.utils import timezone
from pydantic import AwareDatetime, BeforeValidator, Field

from project.durations import Duration
from workflows.actions import Action, Call, StepError, Wait, action
from workflows.actions.base import Json, Rehearsal


def _written(value: Json) -> Json:
    if not isinstance(value, str):
        raise ValueError("should be a time with its offset, such as 2030-01-31T12:00:00Z")
    return value


@action("delay")
class Delay(Action):
    """Waits `for` a length of time, or `until` a time (with its offset). Output: {"until"}."""

    for_: Annotated[Duration | None, Field(alias="for")] = None
    until: Annotated[AwareDatetime, BeforeValidator(_written)] | None = None

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        if ("for" in given) == ("until" in given):
            yield "", "say either how long, `for: 15m`, or `until` when"

    def run(self, call: Call) -> Json:
        until = self._end()
        return Wait(until, {"until": until.isoformat()})

    def rehearse(self, call: Call) -> Rehearsal:
        until = self._end()
        return Rehearsal(f"wait until {until:%Y-%m-%d %H:%M:%S %Z}", {"until": until.isoformat()})

    def _end(self) -> datetime:
        if self.until is None and self.for_ is None:
            raise StepError("neither `for` nor `until` has a value", permanent=True)
        return self.until or timezone.now() + (self.for_ or timedelta())
