"""The performer: the pump of steps that wait for the network, where each far side has its share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from project.pump import Claimed, Pump, one_per_process
from project.transport import Transport
from workflows import performing
from workflows.actions.base import NetworkAction, StepError
from workflows.models import Lane
from workflows.performing import Done, Job

log = structlog.get_logger(__name__)

SLOTS: Final = 400  # attempts under way in one process


class Performer(Pump[Job, Done]):
    """Keeps steps going round in this process. Its lanes are far sides: hosts, or actions that name no host.

    A far side may have half of the slots that the others leave free: all that hang together leave room for one more.
    """

    name = "performer"

    def __init__(self, slots: int = SLOTS) -> None:
        super().__init__(slots)

    def lane(self, job: Job) -> str:
        return job.side

    def claim(self, free: int) -> Claimed[Job, Done]:
        with self._changed:
            busy = {str(side): number for side, number in self.under_way.items() if number > 0}
        rooms = {side: room(self.slots, busy, side) for side in busy}
        return performing.claim(Lane.NETWORK, free, rooms=rooms, room=room(self.slots, busy))

    def put_back(self, job: Job) -> Done:
        return performing.broken_off(job)

    def record(self, dones: Sequence[Done]) -> float | None:
        return performing.record(dones)

    async def perform(self, job: Job, transport: Transport) -> Done:
        try:
            if not isinstance(job.action, NetworkAction):
                raise StepError(f"{job.action.name} does not wait for the network", permanent=True)
            async with asyncio.timeout(job.seconds):
                return performing.returned(job, await job.action.perform(job.call, transport))
        except asyncio.CancelledError:
            return performing.broken_off(job)
        except (StepError, TimeoutError) as error:
            return performing.failed(job, error)
        except Exception as error:  # an action is foreign code; what it raises is an outcome
            log.exception("action failed", action=job.action.name, step=str(job.uid))
            return performing.failed(job, error)


def room(slots: int, busy: Mapping[str, int], side: str = "") -> int:
    """How many more a far side may have under way: half of what the others leave free, less what it has.

    >>> room(400, {}), room(400, {"a": 200}, "a"), room(400, {"a": 200}), room(400, {"a": 390}, "a")
    (200, 0, 100, -190)
    """
    mine = busy.get(side, 0)
    others = sum(busy.values()) - mine
    return max(1, (slots - others) // 2) - mine


performer = one_per_process(Performer)
