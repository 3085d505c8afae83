"""What is wrong with the fields somebody wrote, in words that say where it is and what would be right."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from project.names import unknown

Json: TypeAlias = Any
Path: TypeAlias = tuple[str | int, ...]

_MISSING = object()
_LONGEST_SHOWN = 60
_PLAIN_WORDS = [("a valid string", "text"), ("a valid list", "a list"), ("a valid tuple", "a list")]


def complaints(
    model: type[BaseModel], given: Mapping[str, Json], *, unless: Callable[[Json], bool] = lambda value: False
) -> list[tuple[Path, str]]:
    """What keeps `given` from being a `model`: (path, message) pairs in the order of the fields, empty if nothing.

    A value for which `unless` is true is not known yet: nothing is said of it, nor of what it is a part of.
    """
    try:
        model.model_validate(given)
    except ValidationError as error:
        found: dict[Path, list[str]] = {}
        for detail in error.errors(include_url=False):
            path, value = _written(given, detail)
            if detail["type"] in ("missing", "extra_forbidden") or not unless(value):
                message = _message(model, path, detail)
                messages = found.setdefault(path, [])
                if message not in messages:
                    messages.append(message)
        # a field of several types has a message for each
        return [(path, " or ".join(messages)) for path, messages in found.items()]
    return []


def dotted(path: Path) -> str:
    """The path as people write it.

    >>> dotted(("steps", 2, "with", "template"))
    'steps[2].with.template'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def shown(value: Json) -> str:
    """The value as JSON, shortened to fit in a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _written(given: Json, detail: ErrorDetails) -> tuple[Path, Json]:
    """Where in `given` the complaint is, and the value there: pydantic's path also names the branches of unions."""
    path: Path = ()
    value = given
    for part in detail["loc"]:
        inner = _member(value, part)
        if inner is not _MISSING:
            path, value = (*path, part), inner
    if detail["type"] == "missing":
        return (*path, detail["loc"][-1]), None
    return path, value


def _member(value: Json, part: str | int) -> Json:
    if isinstance(value, dict):
        return value.get(part, _MISSING)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return _MISSING


def _message(model: type[BaseModel], path: Path, detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "this field is required"
        case "extra_forbidden":
            return unknown("field", str(path[-1]), _known(model, path[:-1]))
        case "value_error":
            return str(detail["ctx"]["error"])
        case "model_type" | "dict_type":
            expected = "should be a map of fields"
        case "none_required":
            expected = "may be left out"
        case _:
            expected = detail["msg"].removeprefix("Input ").removeprefix("Value ")
            for python, plain in _PLAIN_WORDS:
                expected = expected.replace(python, plain)
    return f"{expected}, not {shown(detail['input'])}"


def _known(model: type[BaseModel], path: Path) -> list[str]:
    """The names of the fields of the model at `path` inside `model`."""
    for part in path:
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                model = next(_models(field.annotation), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
