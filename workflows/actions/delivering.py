"""The base of steps that make deliveries, which the sender then sends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, Self

from notifications.compose import ComposeError, Request, compose, rehearse
from notifications.models import Delivery, DeliveryState
from notifications.story import tell
from project.doorbell import ring
from workflows.actions import Action, Call, StepError
from workflows.actions.base import Json, Rehearsal


class Delivering(Action):
    """Output: {"deliveries": [uid, …], "skipped": how many of them}, and what `more` adds."""

    @abstractmethod
    def request(self, call: Call) -> Request:
        """What is to be delivered. Raises StepError."""

    @abstractmethod
    def would(self, deliveries: Sequence[Delivery], request: Request) -> tuple[str, Literal["sure", "example"]]:
        """What a test run says of it, and how sure its output is."""

    def more(self, request: Request) -> dict[str, Json]:
        """More of the output."""
        return {}

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        requests = [one.request(call) for one, call in calls]
        try:
            composed = compose(requests)
        except ComposeError as error:
            raise StepError(str(error), permanent=True) from error
        ring("notifications.deliver", by=str(calls[0][1].uid))
        done = zip(calls, requests, composed, strict=True)
        return [one._output(request, deliveries) for (one, _), request, deliveries in done]

    def rehearse(self, call: Call) -> Rehearsal:
        request = self.request(call)
        try:
            deliveries = rehearse(request)
        except ComposeError as error:
            raise StepError(str(error), permanent=True) from error
        would, known = self.would(deliveries, request)
        return Rehearsal(would, self._output(request, deliveries), known, deliveries=tell(deliveries))

    def _output(self, request: Request, deliveries: Sequence[Delivery]) -> Json:
        return {
            "deliveries": [str(delivery.uid) for delivery in deliveries],
            "skipped": sum(delivery.state == DeliveryState.SKIPPED for delivery in deliveries),
            **self.more(request),
        }
