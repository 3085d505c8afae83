"""`digest`: gather what many runs bring, and go on once with all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Self

from django.utils import timezone
from pydantic import AfterValidator

from project import bulk
from project.cron import Cron, zone_named
from project.durations import Duration
from workflows import gates
from workflows.actions import Action, Call, StepError, Stop, Wait, action
from workflows.actions.base import Json, Key, Rehearsal, longer_than_nothing
from workflows.models import Gate, Gathered, StepRun, StepState

MOST_ITEMS: Final = 1000


def _is_cron(text: str) -> str:
    Cron(text, zone_named("UTC"))  # CronError is a ValueError
    return text


def _is_zone(name: str) -> str:
    try:
        zone_named(name)
    except LookupError as error:
        raise ValueError(str(error)) from error
    return name


@action("digest")
class Digest(Action):
    """The first run with this `key` waits; those that come meanwhile leave what they bring, and end here.

    It waits for `window`, or until the next time that `cron` names in `time_zone` (UTC).
    `collect` is what each brings; without it, its `event`. Output of the first: {"count", "items": what was brought,
    in the order in which it came, at most 1,000}; of the others {"merged_into": the step run of the first}.
    """

    key: Key = ""
    window: Annotated[Duration, AfterValidator(longer_than_nothing)] | None = None
    cron: Annotated[str, AfterValidator(_is_cron)] | None = None
    time_zone: Annotated[str, AfterValidator(_is_zone)] = "UTC"
    collect: Any = None

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        if ("window" in given) == ("cron" in given):
            yield "", "say either how long, `window: 10m`, or when, `cron: 0 9 * * MON-FRI`"
        if "time_zone" in given and "cron" not in given:
            yield "time_zone", "is what `cron` is read in, and there is no `cron`"

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        keys = [call.gate(one.key) for one, call in calls]
        held = gates.hold(keys)
        first = _still_waiting(held.values())
        now = timezone.now()
        turns: list[Json] = []
        for key, (one, call) in zip(keys, calls, strict=True):
            if key in first:
                turns.append(Stop({"merged_into": first[key]}))
                continue
            first[key] = str(call.uid)
            until = one.end(now)
            held[key].value, held[key].due_at = {"first": first[key]}, until + timedelta(days=1)
            turns.append(Wait(until, {"until": until.isoformat()}))
        bulk.update(list(held.values()), ("value", "due_at"))
        bulk.insert(
            Gathered(uid=call.uid, gate=key, value=one.brought(call))
            for key, (one, call) in zip(keys, calls, strict=True)
        )
        return turns

    def end(self, now: datetime) -> datetime:
        """When the first run goes on."""
        if self.cron:
            return Cron(self.cron, zone_named(self.time_zone)).next(now)
        if self.window:
            return now + self.window
        raise StepError("neither `window` nor `cron` has a value", permanent=True)

    def brought(self, call: Call) -> Json:
        return call.context["event"] if self.collect is None else self.collect

    def wake(self, call: Call, output: Json) -> Json:
        key = call.gate(self.key)
        gate = gates.hold([key])[key]
        gathered = Gathered.objects.filter(gate=key).order_by("uid")
        items = list(gathered.values_list("value", flat=True)[:MOST_ITEMS])
        count, _ = gathered.delete()
        gate.delete()
        return {"count": count, "items": items}

    def rehearse(self, call: Call) -> Rehearsal:
        end = self.end(timezone.now())
        would = f"gather what comes until {end:%Y-%m-%d %H:%M:%S %Z}, or leave what it brings with a run that gathers"
        return Rehearsal(would, {"count": 1, "items": [self.brought(call)]}, "example")


def _still_waiting(gates: Iterable[Gate]) -> dict[str, str]:
    """The first runs' steps by gate, without those that were cancelled; what was brought to one is for the next."""
    first = {gate.key: gate.value["first"] for gate in gates if gate.value}
    kept = StepRun.objects.filter(pk__in=first.values()).exclude(state=StepState.WAITING)
    # One that came to its gate in this transaction is not stored yet.
    gone = {str(uid) for uid in kept.values_list("pk", flat=True)}
    return {key: uid for key, uid in first.items() if uid not in gone}
