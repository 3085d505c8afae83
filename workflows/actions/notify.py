"""`notify`: tell people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from notifications.catalogue import catalogue
from notifications.compose import Request, objection
from notifications.models import Delivery, DeliveryState, Priority
from project.expressions import is_dynamic
from project.names import unknown
from workflows.actions import Call, action
from workflows.actions.base import Json, Named
from workflows.actions.delivering import Delivering


@action("notify")
class Notify(Delivering):
    """Makes deliveries, which the sender then sends. Output: {"deliveries": [uid, …], "skipped": how many of them}."""

    to: Annotated[list[str], Field(min_length=1), Named("targets")]
    """channel:NAME, recipient:NAME, topic:NAME, or an address like email:ada@example.com."""
    template: Annotated[str, Named("templates")] = ""
    """What is said. Only programs (webhooks, brokers) need none: they are sent data."""
    channel: Annotated[str | None, Named("channels")] = None
    """Carries it, instead of the default channels."""
    data: dict[str, Json] | None = None
    """More for the template; programs (webhooks) are sent it instead of the event."""
    category: str = ""
    """What it is about, for people's preferences."""
    priority: Priority = Priority.NORMAL
    """critical overrides quiet hours."""
    dedupe_key: str = ""
    """A second notification with the same key, to one address by one channel within an hour, is skipped."""

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        known = catalogue()
        template, channel = given.get("template", ""), given.get("channel")
        if template and not is_dynamic(template) and template not in known.templates:
            yield "template", unknown("template", template, sorted(known.templates))
        if channel is not None and not is_dynamic(channel) and channel not in known.channels:
            yield "channel", unknown("channel", channel, sorted(known.channels))
        elif isinstance(given["to"], list) and not is_dynamic(channel):
            for index, target in enumerate(given["to"]):
                if not is_dynamic(target) and (message := objection(target, channel, words=bool(template))):
                    yield f"to[{index}]", message

    def would(self, deliveries: Sequence[Delivery], request: Request) -> tuple[str, Literal["sure"]]:
        told = sum(delivery.state != DeliveryState.SKIPPED for delivery in deliveries)
        return f"make {told} deliver{'y' if told == 1 else 'ies'}", "sure"

    def request(self, call: Call) -> Request:
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
