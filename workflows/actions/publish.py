"""`publish`: put an event where other systems hear it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from notifications.catalogue import catalogue
from notifications.compose import Request, takes_events
from notifications.models import Delivery
from project.depth import DEPTH_ATTRIBUTE, too_deep
from project.expressions import is_dynamic
from project.identifiers import OWN_SOURCE
from project.names import unknown
from workflows.actions import Call, StepError, action
from workflows.actions.base import Json, Named
from workflows.actions.delivering import Delivering

_EXTENSION: Final = re.compile(r"[a-z0-9]{1,20}\Z")  # by CloudEvents 1.0.2, "Naming Convention"
_ATTRIBUTE: Final = re.compile(r"[a-z0-9_]{1,50}\Z")  # also data_base64, by which `event` has what is no JSON
_TEXTS: Final = frozenset({"specversion", "id", "source", "type", "subject", "time", "dataschema", "datacontenttype"})
_OF_DATA: Final = ("dataschema", "datacontenttype", "data_base64")
# What `event` has beside the attributes of the event.
_NOT_ITS_OWN: Final = frozenset({"data", "uid", "depth", DEPTH_ATTRIBUTE})


def _extensions(given: dict[str, Any]) -> dict[str, Any]:
    for name in given:
        if not _EXTENSION.match(name):
            raise ValueError(f'"{name}" is not an attribute name: small letters and digits only, at most 20')
        if name in _TEXTS | _NOT_ITS_OWN:
            raise ValueError(f'"{name}" is no extension')
    return given


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


Attribute = Annotated[str, Field(max_length=500), AfterValidator(_one_line)]


@action("publish")
class Publish(Delivering):
    """Makes a delivery of a CloudEvent, which the sender then publishes by a channel on a broker.

    With a channel alone, the event that the run works on goes on as it is: with its id, source, time and extensions.
    With a type, subject, data, id or source it is a new event. Output: {"deliveries": [uid], "skipped": 0, "id"}; where
    the channel is disabled, 1 is skipped.
    """

    channel: Annotated[str, Named("broker channels")]
    """The channel, of a type that publishes: kafka, rabbitmq, nats, mqtt, redis, sns, sqs."""
    type: Annotated[Attribute, Field(max_length=200)] = ""
    """The event's type. A new event without one has that of the run's event."""
    subject: Attribute = ""
    """What it is about. Brokers keep the order of events with the same subject. A new event has the run's event's."""
    data: Json = None
    """Its payload. A new event without any has that of the run's event."""
    id: Annotated[Attribute, Field(max_length=200)] = ""
    """What receivers know a repetition by. A new event has one that is the same for this step of this run for ever."""
    source: Attribute = ""
    """Who says so. A new event is from /carillon."""
    extensions: Annotated[dict[str, str | bool | int], AfterValidator(_extensions)] = Field(default_factory=dict)
    """More attributes, like partitionkey or traceparent."""

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        channel = given["channel"]
        if is_dynamic(channel):
            return
        known = catalogue().channels
        brokers = sorted(name for name, each in known.items() if takes_events(each))
        if channel in known and channel not in brokers:
            yield "channel", f'"{channel}" takes no events, it is of type {known[channel].kind}; {_known(brokers)}'
        elif channel not in known:
            yield "channel", unknown("channel", channel, brokers)

    def would(self, deliveries: Sequence[Delivery], request: Request) -> tuple[str, Literal["example"]]:
        return f"publish an event {(request.event or {})['type']} by the channel {self.channel}", "example"

    def more(self, request: Request) -> dict[str, Json]:
        return {"id": (request.event or {})["id"]}

    def request(self, call: Call) -> Request:
        depth = call.depth + 1
        if told := too_deep(depth):
            raise StepError(told, permanent=True)
        event, data = self._event(call)
        return Request(
            origin=call.uid, to=[f"channel:{self.channel}"], event={**event, DEPTH_ATTRIBUTE: depth}, data=data
        )

    def _event(self, call: Call) -> tuple[dict[str, Any], Json]:
        """The attributes of the event, and its data."""
        found = call.context.get("event")
        theirs = _attributes(found) if isinstance(found, Mapping) else {}
        given = self.model_fields_set & {"type", "subject", "data", "id", "source"}
        if not given and {"type", "id", "source"} <= theirs.keys():
            return {**theirs, **self.extensions}, found["data"] if found and "data" in found else None
        ours = {name: value for name in ("id", "source", "type", "subject") if (value := getattr(self, name))}
        inherited = ("type", "subject") if "data" in given else ("type", "subject", *_OF_DATA)
        event = {"id": call.key, "source": OWN_SOURCE, **{name: theirs[name] for name in inherited if name in theirs}}
        event |= {**ours, **self.extensions}
        if "type" not in event:
            raise StepError("an event has a type, and the run's input has none: give `type`", permanent=True)
        if "data" in given or not isinstance(found, Mapping):
            return event, self.data
        return event, found.get("data", found)


def _attributes(event: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a CloudEvent that the document has, if it is one."""
    return {
        name: value
        for name, value in event.items()
        if name not in _NOT_ITS_OWN
        and _ATTRIBUTE.match(name)
        and (isinstance(value, str) if name in _TEXTS else isinstance(value, str | bool | int | float))
        and value != ""
    }


def _known(brokers: Sequence[str]) -> str:
    return f"channels on a broker: {', '.join(brokers) or 'none'}"
