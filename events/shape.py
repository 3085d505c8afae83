"""What a JSON Schema says of a field, without any data: whether it may be there, and of what type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import jsonschema_rs

Json: TypeAlias = Any
Standing: TypeAlias = Literal["declared", "open", "forbidden"]

DEEPEST: Final = 100  # references and parts that are followed; a schema may refer to itself
_COMBINED: Final = ("anyOf", "oneOf")


@dataclass(frozen=True)
class Field:
    """`declared`: the schema names it; `open`: it may be there, the schema says nothing of it; `forbidden`: it may not.

    `types` are those of JSON Schema that it may have; empty: any.
    """

    standing: Standing
    types: frozenset[str] = frozenset()


OPEN: Final = Field("open")
FORBIDDEN: Final = Field("forbidden")


def field(schema: Json, path: Sequence[str]) -> Field:
    """What the schema says of the field at `path`, whose parts are names of properties.

    What cannot be told without data counts in favour of the field: a reference out of the schema, `not`,
    `unevaluatedProperties`.

    >>> field({"properties": {"amount": {"type": "number"}}}, ["amount"])
    Field(standing='declared', types=frozenset({'number'}))
    >>> field({"properties": {"amount": {}}, "additionalProperties": False}, ["sum"]).standing
    'forbidden'
    """
    return _Reader(schema).field(schema, tuple(path))


class _Reader:
    """Reads one schema. What it was asked before it knows, so that parts that refer to each other cost no more."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._known: dict[tuple[int, tuple[str, ...]], Field] = {}
        self._depth = 0

    def field(self, schema: Json, path: tuple[str, ...]) -> Field:
        if schema is False:
            return FORBIDDEN
        says_nothing = OPEN if path else Field("declared")
        if not isinstance(schema, dict) or self._depth == DEEPEST:
            return says_nothing
        asked = (id(schema), path)
        if asked not in self._known:
            self._known[asked] = says_nothing  # as long as it is being read: it may refer to itself
            self._depth += 1
            self._known[asked] = self._read(schema, path)
            self._depth -= 1
        return self._known[asked]

    def _read(self, schema: dict[str, Json], path: tuple[str, ...]) -> Field:
        found = [self.field(part, path) for part in [*_list(schema.get("allOf")), *_referred_to(schema, self._root)]]
        found += [_either(self.field(part, path) for part in parts) for parts in _alternatives(schema)]
        types = _types(schema)
        if not path:
            return _both([*found, Field("declared", types)])
        if types and "object" not in types:
            return FORBIDDEN
        return _both([*found, self._property(schema, path)])

    def _property(self, schema: dict[str, Json], path: tuple[str, ...]) -> Field:
        """What the schema's own words about properties say."""
        name, rest = path[0], path[1:]
        patterns = _dict(schema.get("patternProperties"))
        parts = [part for own, part in _dict(schema.get("properties")).items() if own == name]
        parts += [part for pattern, part in patterns.items() if _matches(pattern, name)]
        if parts:
            return _both([self.field(part, rest) for part in parts])
        if isinstance(additional := schema.get("additionalProperties", True), dict):
            return self.field(additional, rest)
        return FORBIDDEN if additional is False else OPEN


def _both(found: Sequence[Field]) -> Field:
    """What holds when all of these do."""
    if any(it.standing == "forbidden" for it in found):
        return FORBIDDEN
    declared = [it.types for it in found if it.standing == "declared"]
    if not declared:
        return OPEN
    narrow = [types for types in declared if types]
    return Field("declared", _common(narrow) if narrow else frozenset())


def _common(sets: Sequence[frozenset[str]]) -> frozenset[str]:
    first, *others = sets
    for types in others:
        wider = types | {"integer"} if "number" in types else types
        first = frozenset("integer" if it == "number" and "integer" in types else it for it in first) & wider
    return first


def _either(found: Iterable[Field]) -> Field:
    """What holds when one of these does."""
    possible = [it for it in found if it.standing != "forbidden"]
    if not possible:
        return FORBIDDEN
    declared = [it for it in possible if it.standing == "declared"]
    if not declared:
        return OPEN
    known = all(it.types for it in declared) and len(declared) == len(possible)
    return Field("declared", frozenset().union(*(it.types for it in declared)) if known else frozenset())


def _alternatives(schema: dict[str, Json]) -> list[list[Json]]:
    found = [parts for word in _COMBINED if (parts := _list(schema.get(word)))]
    if "if" in schema and ("then" in schema or "else" in schema):
        found.append([schema.get("then", True), schema.get("else", True)])
    return found


def _types(schema: dict[str, Json]) -> frozenset[str]:
    match schema:
        case {"type": str(one)}:
            return frozenset([one])
        case {"type": list(several)}:
            return frozenset(it for it in several if isinstance(it, str))
        case {"const": value}:
            return frozenset([_type_of(value)])
        case {"enum": list(values)}:
            return frozenset(map(_type_of, values))
    return frozenset()


def _type_of(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
    return "array" if isinstance(value, list) else "object"


def _referred_to(schema: dict[str, Json], root: Json) -> list[Json]:
    """The part that `$ref` names by a JSON pointer (RFC 6901), the only references that most schemas have."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return []
    part = root
    for name in reference[1:].split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(part, list) and name.isdecimal() and int(name) < len(part):
            part = part[int(name)]
        elif isinstance(part, dict) and name in part:
            part = part[name]
        else:
            return []
    return [part]


def _matches(pattern: str, name: str) -> bool:
    # By the engine that checks data, which is linear in the length of the text; Python's is not.
    checked = jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions())
    return bool(checked.is_valid(name))


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
