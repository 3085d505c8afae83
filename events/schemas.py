"""What a type's data must look like: JSON Schema 2020-12, checked by jsonschema-rs."""

from __future__ import annotations

from typing import Any, Final

import jsonschema_rs

from project.faults import Fault

MOST_FAULTS: Final = 50
MAX_BYTES: Final = 256 * 1024


class SchemaError(ValueError):
    """A schema that cannot be used."""


class Validator:
    """A compiled schema."""

    def __init__(self, schema: Any) -> None:
        """Raises SchemaError, saying where the schema is wrong."""
        if not isinstance(schema, dict | bool):
            raise SchemaError("A schema is a JSON object.")
        try:
            jsonschema_rs.meta.validate({**schema, "$schema": DIALECT} if isinstance(schema, dict) else schema)
            self._validator = jsonschema_rs.Draft202012Validator(
                schema,
                validate_formats=True,
                retriever=_refuse,
                # Linear in the length of the text: a producer's data cannot make a pattern run for ever.
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except jsonschema_rs.ValidationError as error:
            raise SchemaError(f"{dotted(error.instance_path) or 'schema'}: {error.message}") from error
        except (jsonschema_rs.ReferencingError, ValueError) as error:
            raise SchemaError(str(error)) from error

    def accepts(self, data: Any) -> bool:
        return bool(self._validator.is_valid(data))

    def faults(self, data: Any, path: str) -> list[Fault]:
        """Every violation with its path below `path`; empty when there is none. At most 50 are told."""
        if self.accepts(data):
            return []
        found = []
        for error in self._validator.iter_errors(data):
            found.append(Fault(dotted(error.instance_path, path), error.message))
            if len(found) == MOST_FAULTS:
                break
        return found


DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def dotted(path: list[str | int], prefix: str = "") -> str:
    """`["items", 0, "sku"]` as `data.items[0].sku`."""
    for part in path:
        prefix += f"[{part}]" if isinstance(part, int) else f".{part}" if prefix else part
    return prefix


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is outside this schema; put what it refers to under $defs.")
