"""CloudEvents 1.0 as brokers carry them: attributes beside the data (binary mode), or both in one JSON document."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import orjson

from project.identifiers import OWN_SOURCE
from project.timestamps import time_of

Mode: TypeAlias = Literal["binary", "structured", "data"]

JSON: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"

_BESIDE: Final = frozenset({"datacontenttype", "data_base64"})  # no header of their own in binary mode


@dataclass(frozen=True, slots=True)
class Message:
    """What a broker is given. `attributes` are carried beside the body, by the names CloudEvents has for them."""

    attributes: Mapping[str, str]
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """An event that is published. Its attributes are JSON values, none of them null or empty."""

    attributes: Mapping[str, Any]
    data: Any = None  # JSON

    @classmethod
    def of(cls, uid: UUID, type_: str, created_at: datetime, given: Mapping[str, Any], data: Any) -> CloudEvent:
        """The event with these attributes; what they lack comes of the delivery that carries it."""
        attributes = {
            "specversion": "1.0",
            "id": str(uid),
            "source": OWN_SOURCE,
            "type": type_ or "notification",
            "time": time_of(created_at),
            **given,
        }
        return cls({name: value for name, value in attributes.items() if value not in (None, "")}, data)

    @property
    def type(self) -> str:
        return str(self.attributes["type"])

    @property
    def subject(self) -> str:
        return str(self.attributes.get("subject", ""))

    @property
    def key(self) -> str:
        """What a broker keeps together and in order: the attribute partitionkey, else the subject, else the id."""
        return str(self.attributes.get("partitionkey") or self.subject or self.attributes["id"])

    def encoded(self, mode: Mode) -> Message:
        """The message in this mode; `data` is the data alone, without a word about the event.

        >>> event = CloudEvent({"id": "1", "source": "/shop", "type": "paid", "vip": True}, {"n": 1})
        >>> event.encoded("binary").attributes["vip"], event.encoded("binary").body
        ('true', b'{"n":1}')
        >>> event.encoded("structured").body
        b'{"id":"1","source":"/shop","type":"paid","vip":true,"data":{"n":1}}'
        """
        if mode == "structured":
            binary = "data_base64" in self.attributes
            document = {**self.attributes} if binary else {**self.attributes, "data": self.data}
            return Message({}, STRUCTURED, orjson.dumps(document))
        attributes = {} if mode == "data" else self.attributes
        return Message(
            {name: _text(value) for name, value in attributes.items() if name not in _BESIDE},
            str(self.attributes.get("datacontenttype", JSON)),
            self._body(),
        )

    def _body(self) -> bytes:
        if "data_base64" in self.attributes:
            return base64.b64decode(self.attributes["data_base64"])
        media_type = str(self.attributes.get("datacontenttype", JSON)).partition(";")[0].strip().lower()
        if isinstance(self.data, str) and media_type != JSON and not media_type.endswith("+json"):
            return self.data.encode()
        return orjson.dumps(self.data)


def _text(value: Any) -> str:
    """An attribute's value in the canonical form of CloudEvents' types (1.0.2, section "Type System")."""
    return str(value).lower() if isinstance(value, bool) else str(value)
