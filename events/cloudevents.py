"""From an HTTP request to events: plain JSON and the three modes of CloudEvents 1.0.

Follows the CloudEvents specification 1.0.2, its JSON event format and its HTTP protocol binding.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

import orjson
from django.conf import settings

from project.api import BadRequest, Fault, TooLarge, UnsupportedType, holds_nul, load
from project.depth import DEPTH_ATTRIBUTE
from project.timestamps import RFC3339, rfc3339

PLAIN: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

ATTRIBUTE: Final = re.compile(r"[a-z0-9]{1,50}\Z")
PLAIN_FIELDS: Final = ("type", "data", "id", "subject", "time", "source", "dataschema")
REQUIRED: Final = ("id", "source", "type")  # by CloudEvents; plain JSON may leave out the first two
NUL: Final = "contains a NUL character (\\u0000), which PostgreSQL cannot store"
MAX_LENGTH: Final = {"type": 200, "id": 200, "subject": 500, "source": 500, "dataschema": 500}


@dataclass(frozen=True, slots=True)
class Original:
    """The call or message that brought an event, as it came in: the headers that are kept, and the body."""

    headers: Mapping[str, str]
    body: str

    @classmethod
    def of(cls, headers: Mapping[str, str], body: bytes) -> Original:
        """Of these headers and this body, as PostgreSQL can store them."""
        return cls(
            {name: value.replace("\0", "") for name, value in headers.items()},
            body.decode(errors="replace").replace("\0", "\ufffd"),
        )


@dataclass(slots=True)
class Incoming:
    """An event as it came in; "" where an attribute is missing, which ingest fills in."""

    type: str
    data: Any = None
    id: str = ""
    source: str = ""
    subject: str = ""
    dataschema: str = ""
    time: datetime | None = None
    extensions: dict[str, Any] = field(default_factory=dict)
    depth: int = 0  # of what Carillon emitted or published: how many runs and events led to it
    original: Original | None = None  # where the event is a translation


def read(content_type: str, headers: Mapping[str, str], body: bytes) -> tuple[list[Incoming], bool]:
    """The events of a request, and whether they came as a batch.

    Raises BadRequest, TooLarge or UnsupportedType, naming every field at fault.
    """
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    charset = re.search(r"charset=\"?([\w-]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "us-ascii"):
        raise UnsupportedType(f"The charset is {charset[1]}; JSON is sent in UTF-8.")
    if media_type == BATCH:
        return _many(load(body), _structured), True
    if media_type == STRUCTURED:
        return [_one(body, _structured)], False
    if "ce-specversion" in headers:
        return [binary(media_type, _in_headers(headers), body)], False
    if media_type == PLAIN:
        if body.lstrip()[:1] == b"[":
            return _many(load(body), _plain), True
        return [_one(body, _plain)], False
    raise UnsupportedType(
        f"The content type is {media_type or 'missing'}; send {PLAIN}, {STRUCTURED}, {BATCH}, "
        "or CloudEvents binary mode (ce-* headers)."
    )


def plain(item: Mapping[str, Any]) -> Incoming:
    """The event of these fields (those of plain JSON), held against all that a request's is.

    Raises BadRequest or TooLarge, naming every field at fault.
    """
    _check_size(len(orjson.dumps(item)))
    faults: list[Fault] = []
    event = _plain(dict(item), faults, "")
    _refuse(faults)
    return event


def binary(media_type: str, attributes: Mapping[str, str], body: bytes) -> Incoming:
    """The event of a message in binary mode: its attributes beside the data. Raises BadRequest or TooLarge."""
    _check_size(len(body))
    faults: list[Fault] = []
    item: dict[str, Any] = dict(attributes)
    if "data" in item:
        faults.append(Fault("ce-data", "is the body, not a header"))
    _required(item, faults, "ce-")
    if media_type:
        item["datacontenttype"] = media_type
    if body:
        if media_type in ("", PLAIN) or media_type.endswith("+json"):
            item["data"] = load(body)
        elif media_type.startswith("text/"):
            item["data"] = _text(body)
        else:
            item["data_base64"] = base64.b64encode(body).decode()
    event = _attributes(item, faults, "ce-")
    _refuse(faults)
    return event


def shortened(subject: str) -> str:
    """What an event is about only tells; an event is not refused because it tells much."""
    most = MAX_LENGTH["subject"]
    return subject if len(subject) * 4 <= most else subject.encode(errors="replace")[:most].decode(errors="ignore")


def check(event: Incoming) -> None:
    """Hold an event that was made of something else against what a request's is. Raises BadRequest."""
    faults: list[Fault] = []
    for name in MAX_LENGTH:
        size = len(getattr(event, name).encode(errors="replace"))
        if size > MAX_LENGTH[name]:
            faults.append(Fault(name, f"has {size} bytes; at most {MAX_LENGTH[name]}"))
        elif "\0" in getattr(event, name):
            faults.append(Fault(name, "contains a NUL character"))
    if holds_nul(event.data):
        faults.append(Fault("data", NUL))
    _refuse(faults)


Reader = Callable[[Any, list[Fault], str], Incoming]


def _one(body: bytes, reader: Reader) -> Incoming:
    _check_size(len(body))
    faults: list[Fault] = []
    event = reader(load(body), faults, "")
    _refuse(faults)
    return event


def _many(items: Any, reader: Reader) -> list[Incoming]:
    if not isinstance(items, list):
        raise BadRequest("A batch is a JSON array of events.")
    if not items:
        raise BadRequest("The batch is empty; send at least one event.")
    if len(items) > settings.BATCH_MAX_EVENTS:
        raise TooLarge(f"The batch has {len(items)} events; at most {settings.BATCH_MAX_EVENTS} at once.")
    faults: list[Fault] = []
    events = [reader(item, faults, f"{index}.") for index, item in enumerate(items)]
    for index, item in enumerate(items):
        _check_size(len(orjson.dumps(item)), index)
    _refuse(faults)
    return events


def _check_size(size: int, index: int | None = None) -> None:
    if size > settings.EVENT_MAX_BYTES:
        which = "The event" if index is None else f"Event {index} of the batch"
        raise TooLarge(f"{which} has {size:,} bytes; at most {settings.EVENT_MAX_BYTES:,}.")


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise BadRequest("This is not an event: " + "; ".join(f"{f.path}: {f.message}" for f in faults[:3]), faults)


def _plain(item: Any, faults: list[Fault], prefix: str) -> Incoming:
    if isinstance(item, dict) and "specversion" in item:
        return _structured(item, faults, prefix)
    if not isinstance(item, dict):
        faults.append(Fault(prefix.rstrip("."), "must be a JSON object"))
        return Incoming("")
    for name in [name for name in item if name not in PLAIN_FIELDS]:
        faults.append(Fault(f"{prefix}{name}", f"unknown field; known are {', '.join(PLAIN_FIELDS)}"))
    if item.get("type") in (None, ""):
        faults.append(Fault(f"{prefix}type", "is required: the name of an event type"))
    return _attributes({name: item[name] for name in PLAIN_FIELDS if name in item}, faults, prefix)


def _structured(item: Any, faults: list[Fault], prefix: str) -> Incoming:
    if not isinstance(item, dict):
        faults.append(Fault(prefix.rstrip("."), "must be a JSON object"))
        return Incoming("")
    _required(item, faults, prefix)
    if "data_base64" in item and "data" in item:
        faults.append(Fault(f"{prefix}data_base64", "cannot stand beside data"))
    return _attributes(item, faults, prefix)


def _in_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The attributes that HTTP headers hold, by section 3.1.3 of the binding."""
    return {name.removeprefix("ce-"): unquote(value) for name, value in headers.items() if name.startswith("ce-")}


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: {error}.") from error


def _required(item: Mapping[str, Any], faults: list[Fault], prefix: str) -> None:
    if item.get("specversion") != "1.0":
        faults.append(Fault(f"{prefix}specversion", f'must be "1.0", not {item.get("specversion")!r}'))
    for name in REQUIRED:
        if item.get(name) in (None, ""):
            faults.append(Fault(f"{prefix}{name}", "is required by CloudEvents"))


def _attributes(item: dict[str, Any], faults: list[Fault], prefix: str) -> Incoming:
    def fault(name: str, message: str) -> None:
        faults.append(Fault(f"{prefix}{name}", message))

    event = Incoming(type="", data=item.get("data"))
    for name, value in item.items():
        if name in MAX_LENGTH:
            if value is None or (value == "" and name in REQUIRED):
                continue  # as if it were not there
            if not isinstance(value, str):
                fault(name, f"must be a string, not {_kind(value)}")
            elif len(value.encode()) > MAX_LENGTH[name]:  # an entry of an index is measured in bytes
                fault(name, f"has {len(value.encode())} bytes; at most {MAX_LENGTH[name]}")
            elif "\0" in value:
                fault(name, "contains a NUL character")
            else:
                setattr(event, name, value)
        elif name == "time":
            event.time = _time(value, fault)
        elif name == "data_base64":
            event.extensions[name] = _base64(value, fault)
        elif name in ("data", "specversion"):
            continue
        elif not ATTRIBUTE.match(name):
            fault(name, "is not an attribute name: CloudEvents allows small letters and digits")
        elif isinstance(value, dict | list):
            fault(name, f"must be a string, a number or a boolean, not {_kind(value)}")
        elif name in ("uid", "depth"):
            fault(name, "is Carillon's own")
        elif name == DEPTH_ATTRIBUTE:
            event.depth = _depth(value, fault)
        elif value is not None:
            event.extensions[name] = value
    if holds_nul(event.data) or holds_nul(event.extensions):
        fault("data", NUL)
    return event


def _time(value: Any, fault: Callable[[str, str], None]) -> datetime | None:
    moment = rfc3339(value) if isinstance(value, str) else None
    if moment is None and value is not None:
        fault("time", f"must be {RFC3339}, not {str(value)[:50]!r}")
    return moment


def _depth(value: Any, fault: Callable[[str, str], None]) -> int:
    """A number, or its digits where attributes are texts; any above the loop guard's are the same to it."""
    digits = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 4:
        fault(DEPTH_ATTRIBUTE, f"must be a whole number from 0 to 9999, not {str(value)[:50]!r}")
        return 0
    return int(digits)


def _base64(value: Any, fault: Callable[[str, str], None]) -> str:
    try:
        base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        fault("data_base64", "is not base64")
    return str(value)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"
