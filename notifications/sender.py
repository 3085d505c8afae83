"""The sender: the pump of deliveries, where each channel has a window that follows its health."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import structlog

from notifications import delivery
from notifications.catalogue import LiveChannel
from notifications.channels.base import Receipt, SendError
from notifications.delivery import Done, Job
from notifications.lanes import Window
from project.pump import Claimed, Pump, one_per_process
from project.transport import Transport

log = structlog.get_logger(__name__)

SLOTS: Final = 256  # attempts under way in one process


class Sender(Pump[Job, Done]):
    """Keeps deliveries going round in this process. Its lanes are the channels, by their primary keys."""

    name = "sender"

    def __init__(self, slots: int = SLOTS) -> None:
        super().__init__(slots)
        self._windows: defaultdict[int, Window] = defaultdict(Window)

    def lane(self, job: Job) -> int:
        return job.leased.lane

    def claim(self, free: int) -> Claimed[Job, Done]:
        return delivery.claim(free, self._room)

    def put_back(self, job: Job) -> Done:
        return Done(job, error=SendError("not begun in time", hold=False), tried=False)

    def record(self, dones: Sequence[Done]) -> float | None:
        return delivery.record(dones)

    async def perform(self, job: Job, transport: Transport) -> Done:
        started = time.monotonic()
        receipt: Receipt | None = None
        error: SendError | None = None
        try:
            async with asyncio.timeout(job.channel.timeout):
                receipt = await delivery.attempt(job, transport)
        except SendError as refusal:
            error = refusal
        except TimeoutError:
            error = SendError(f"no answer within {job.channel.timeout:g} s")
        except asyncio.CancelledError:
            error = SendError("broken off because the sender was stopped", hold=False)
            return Done(job, error=error, broken_off=True, started=started)
        except Exception as mistake:  # a channel type is foreign code; what it raises is an outcome
            log.exception("channel type failed", channel=job.channel.name, delivery=str(job.leased.uid))
            error = SendError(f"{type(mistake).__name__}: {mistake}")
        self._learn(job, error)
        return Done(job, receipt, error, started=started)

    def _learn(self, job: Job, error: SendError | None) -> None:
        window = self._windows[job.leased.lane]
        if error is None:
            window.delivered(most=job.channel.max_in_flight)
        elif error.hold:
            window.troubled()

    def _room(self, channel: LiveChannel) -> int:
        if not channel.enabled:
            return self.slots  # nothing is sent there, only written off
        most = min(self._windows[channel.id].size, channel.max_in_flight)
        if channel.type is not None and channel.type.concurrency is not None:
            most = min(most, channel.type.concurrency)
        return most - self.under_way[channel.id]


sender = one_per_process(Sender)
