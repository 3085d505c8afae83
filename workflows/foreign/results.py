"""What a statement gave back, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import CursorResult

from project.expressions import EvaluationError, to_json
from workflows.foreign import ForeignError

Json: TypeAlias = Any

MAX_ROWS: Final = 100
MAX_BYTES: Final = 256 * 1024


def output(result: CursorResult[Any]) -> Json:
    """How many rows were changed or found, and the first of those that were returned. Reads the result to its end."""
    if not result.returns_rows:
        return {"rows": max(result.rowcount, 0), "returned": []}
    rows, returned = 0, []
    for row in result.mappings():
        rows += 1
        if rows <= MAX_ROWS:
            returned.append(plain(row))
    size = len(orjson.dumps(returned))
    if size > MAX_BYTES:
        raise ForeignError(
            f"the rows it returns are {size // 1024} KiB as JSON; at most {MAX_BYTES // 1024} are kept: "
            "name fewer columns",
            permanent=True,
        )
    return {"rows": rows, "returned": returned}


def plain(value: Any) -> Json:
    """A database's value as JSON that expressions can read; what JSON has no word for becomes text."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    try:
        return to_json(value)
    except (EvaluationError, ValueError):  # the latter: of a signalling NaN
        return str(value)
