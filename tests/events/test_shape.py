"""What a schema says of a field, and that data agrees with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.schemas import Validator
from events.shape import FORBIDDEN, OPEN, Field, field

ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}


def declared(*types: str) -> Field:
    return Field("declared", frozenset(types))


@pytest.mark.parametrize(
    ("schema", "path", "found"),
    [
        (True, "a", OPEN),
        (False, "a", FORBIDDEN),
        ({}, "a.b", OPEN),
        ({"properties": {"a": True}}, "a", declared()),
        ({"properties": {"a": False}}, "a", FORBIDDEN),
        ({"properties": {"a": {"type": "number"}}}, "a", declared("number")),
        ({"properties": {"a": {"type": ["string", "null"]}}}, "a", declared("string", "null")),
        ({"properties": {"a": {"enum": [1, "x", None]}}}, "a", declared("integer", "string", "null")),
        ({"properties": {"a": {"const": 1.5}}}, "a", declared("number")),
        ({"properties": {"a": {"type": "number"}}}, "a.b", FORBIDDEN),
        ({"properties": {"a": {"type": ["object", "null"]}}}, "a.b", OPEN),
        ({"properties": {"a": {}}}, "b", OPEN),
        ({"properties": {"a": {}}, "additionalProperties": False}, "b", FORBIDDEN),
        ({"additionalProperties": {"type": "string"}}, "b", declared("string")),
        ({"properties": {"ship": ADDRESS}}, "ship.city", declared("string")),
        ({"properties": {"ship": ADDRESS}}, "ship.street", FORBIDDEN),
        (
            {"patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": False},
            "x_a",
            declared("integer"),
        ),
        ({"patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": False}, "y", FORBIDDEN),
        ({"patternProperties": {"^(a+)+$": {}}}, "a" * 40 + "b", OPEN),
        ({"$ref": "#/$defs/o", "$defs": {"o": {"properties": {"a": {"type": "string"}}}}}, "a", declared("string")),
        ({"properties": {"a": {"$ref": "#/$defs/x~1y"}}, "$defs": {"x/y": ADDRESS}}, "a.street", FORBIDDEN),
        ({"properties": {"a": {"$ref": "https://example.com/elsewhere"}}}, "a.b", OPEN),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "a.b", OPEN),
        ({"allOf": [{"properties": {"a": {"type": "number"}}}, {"required": ["a"]}]}, "a", declared("number")),
        (
            {"allOf": [{"properties": {"a": {"type": "number"}}}, {"properties": {"a": {"type": "integer"}}}]},
            "a",
            declared("integer"),
        ),
        ({"allOf": [{"properties": {"a": {}}}, {"additionalProperties": False}]}, "a", FORBIDDEN),
        (
            {"anyOf": [{"properties": {"a": {"type": "number"}}}, {"properties": {"a": {"type": "string"}}}]},
            "a",
            declared("number", "string"),
        ),
        ({"oneOf": [{"properties": {"a": {"type": "number"}}}, {"properties": {"b": {}}}]}, "a", declared()),
        ({"oneOf": [ADDRESS, {"properties": {"b": {}}, "additionalProperties": False}]}, "c", FORBIDDEN),
        ({"if": {}, "then": {"properties": {"a": {"type": "string"}}}}, "a", declared()),
        (
            {"unevaluatedProperties": False, "allOf": [{"properties": {"a": {"type": "string"}}}]},
            "a",
            declared("string"),
        ),
        ({"properties": "nonsense", "allOf": 3, "type": 7}, "a", OPEN),
    ],
)
def test_what_a_schema_says(schema: Any, path: str, found: Field) -> None:
    assert field(schema, path.split(".")) == found


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    tree = {"properties": {"left": {"$ref": "#"}, "value": {"type": "string"}}, "additionalProperties": False}
    assert field(tree, ["left"] * 30 + ["value"]) == declared("string")
    assert field(tree, ["left", "left", "other"]) == FORBIDDEN
    assert field({"$ref": "#"}, ["a"]) == OPEN
    doubled = {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}}
    assert field({**doubled, "$ref": "#/$defs/d0"}, ["a"]) == OPEN


names = st.sampled_from(["a", "b", "x_1"])
types = st.sampled_from(["string", "number", "integer", "boolean", "null", "array", "object"])
schemas = st.recursive(
    st.booleans() | st.just({}) | st.builds(lambda one: {"type": one}, types),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(names, inner, max_size=2),
            "patternProperties": st.dictionaries(st.just("^x_"), inner, max_size=1),
            "additionalProperties": inner,
            "type": types | st.just(["object", "null"]),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "if": inner,
            "then": inner,
            "unevaluatedProperties": st.just(False),
        },
    ),
    max_leaves=8,
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.just(0.5) | st.sampled_from(["", "y"]),
    lambda inner: st.dictionaries(names, inner, max_size=2) | st.lists(inner, max_size=1),
    max_leaves=5,
)


@settings(max_examples=600, deadline=None)
@given(schemas, documents, st.lists(names, min_size=1, max_size=2))
def test_what_is_forbidden_is_in_no_data_that_the_schema_takes(schema: Any, data: Any, path: list[str]) -> None:
    """And what has a type is of that type."""
    there, value = True, data
    for name in path:
        there = isinstance(value, dict) and name in value
        if not there:
            return
        value = value[name]
    if not Validator(schema).accepts(data):
        return
    found = field(schema, path)
    assert found.standing != "forbidden"
    assert not found.types or any(Validator({"type": each}).accepts(value) for each in found.types)
