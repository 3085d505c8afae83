"""`notify`: tell people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field

from notifications.catalogue import catalogue
from notifications.compose import ComposeError, Request, compose, objection
from notifications.models import DeliveryState, Priority
from project.doorbell import ring
from project.expressions import is_dynamic
from project.names import unknown
from workflows.actions import Action, Call, StepError, action
from workflows.actions.base import Json


@action("notify")
class Notify(Action):
    """Makes deliveries, which the sender then sends. Output: {"deliveries": [uid, …], "skipped": how many of them}."""

    to: Annotated[list[str], Field(min_length=1)]
    template: str
    channel: str | None = None
    data: dict[str, Json] | None = None
    category: str = ""
    priority: Priority = Priority.NORMAL
    dedupe_key: str = ""

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        known = catalogue()
        template, channel = given["template"], given.get("channel")
        if not is_dynamic(template) and template not in known.templates:
            yield "template", unknown("template", template, sorted(known.templates))
        if channel is not None and not is_dynamic(channel) and channel not in known.channels:
            yield "channel", unknown("channel", channel, sorted(known.channels))
        elif isinstance(given["to"], list) and not is_dynamic(channel):
            for index, target in enumerate(given["to"]):
                if not is_dynamic(target) and (message := objection(target, channel)):
                    yield f"to[{index}]", message

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        try:
            composed = compose([one._request(call) for one, call in calls])
        except ComposeError as error:
            raise StepError(str(error), permanent=True) from error
        ring("notifications.deliver", by=str(calls[0][1].uid))
        return [
            {
                "deliveries": [str(delivery.uid) for delivery in deliveries],
                "skipped": sum(delivery.state == DeliveryState.SKIPPED for delivery in deliveries),
            }
            for deliveries in composed
        ]

    def _request(self, call: Call) -> Request:
        return Request(
            origin=call.uid,
            to=self.to,
            template=self.template,
            channel=self.channel,
            context=call.context,
            data=self.data,
            category=self.category,
            priority=self.priority,
            dedupe_key=self.dedupe_key,
        )
