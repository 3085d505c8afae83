"""How often something may happen, as people write it: `500/s`, `30/m`, `1000/h`."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PATTERN = r"^[1-9]\d{0,8}/[smhd]$"
_FORM = re.compile(_PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` times in `per_seconds` seconds (1, 60, 3600 or 86400). Also a pydantic field, written as text.

    >>> Rate.parse("30/m")
    Rate(count=30, per_seconds=60)
    >>> str(Rate.parse("500/s"))
    '500/s'
    >>> Rate.parse("fast")
    Traceback (most recent call last):
    ValueError: "fast" is not a rate; write for example 500/s, 30/m or 1000/h
    """

    count: int
    per_seconds: int

    @classmethod
    def parse(cls, value: object) -> "Rate":
        """The rate that the text means; a Rate is returned as it is. Raises ValueError."""
        if isinstance(value, Rate):
            return value
        if not isinstance(value, str) or not _FORM.fullmatch(value):
            shown = f'"{value}"' if isinstance(value, str) else repr(value)
            raise ValueError(f"{shown} is not a rate; write for example 500/s, 30/m or 1000/h")
        count, unit = value.split("/")
        return cls(count=int(count), per_seconds=_SECONDS[unit])

    @property
    def interval(self) -> float:
        """Seconds between two, when they are spread evenly."""
        return self.per_seconds / self.count

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in _SECONDS.items() if seconds == self.per_seconds)
        return f"{self.count}/{unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.to_string_ser_schema(when_used="always")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": _PATTERN, "examples": ["500/s", "30/m", "1000/h"]}
