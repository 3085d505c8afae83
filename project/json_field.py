"""A JSON column that reads back what was written into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from django.db import models
from django.db.models.expressions import BaseExpression


class JSONField(models.JSONField):
    """Django's, read by orjson: a third of the time, and numbers stay what orjson can write.

    PostgreSQL gives the double 1e25 back as an integer of 26 digits, which Python would take for one.
    """

    def from_db_value(self, value: Any, expression: BaseExpression, connection: Any) -> Any:
        return orjson.loads(value) if isinstance(value, str) else value

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs  # the column is the same
