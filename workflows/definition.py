"""The workflow language: from YAML to steps that are ready to run. The language itself knows no table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from project import documents
from project.documents import Document, DocumentError, Path
from project.durations import Duration
from project.expressions import Expression, ExpressionError, Values, compile_expression, compile_values, is_dynamic
from project.fields import complaints, dotted
from project.names import unknown
from project.retry import RetryPolicy
from workflows.actions import Action, actions
from workflows.actions.base import Json

VARIABLES: Final = ("event", "run", "steps")
FAILURE_VARIABLES: Final = (*VARIABLES, "failure")
"""Steps under `on_failure` also see `failure`: {step, error}."""

MAX_STEPS: Final = 200


@dataclass(frozen=True)
class Problem:
    """Something wrong in a definition: where (`steps[2].with.template`; "" for the whole), on which line, and what."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path + ': ' if self.path else ''}{self.message}"


class DefinitionError(ValueError):
    """A definition that cannot be published, with everything that is wrong with it, in the order of its lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(map(str, self.problems)))


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", text):
        raise ValueError(f'"{text}" is no name: small letters, digits, dots, dashes and underscores, at most 100')
    return text


def _identifier(text: str) -> str:
    # what CEL can read after `steps.`
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,99}", text) or text in ("in", "true", "false", "null"):
        raise ValueError(f'"{text}" is no id: a small letter, then small letters, digits and underscores, at most 100')
    return text


def _positive(duration: timedelta) -> timedelta:
    if not duration:
        raise ValueError("must be longer than 0s")
    return duration


def _condition(value: Json) -> Json:
    return str(value).lower() if isinstance(value, bool) else value  # `if: false` switches a step off


class Step(BaseModel):
    """One step, as it was written, and compiled at first use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, AfterValidator(_identifier)]
    action: str
    if_: Annotated[str | None, BeforeValidator(_condition), Field(alias="if")] = None
    with_: Annotated[dict[str, Any], Field(alias="with")] = {}
    retry: RetryPolicy | None = None
    timeout: Annotated[Duration, AfterValidator(_positive)] | None = None
    on_error: Literal["fail", "continue"] = "fail"

    @cached_property
    def condition(self) -> Expression | None:
        """Its `if`; None: it always runs."""
        return None if self.if_ is None else compile_expression(self.if_, FAILURE_VARIABLES)

    @cached_property
    def values(self) -> Values:
        """Its `with`; render them for a run, then fill `action_class` with the result."""
        return compile_values(self.with_, FAILURE_VARIABLES)

    @cached_property
    def action_class(self) -> type[Action]:
        """What does it. Raises UnknownName when the action was there at publication and is no more."""
        return actions[self.action]


def _some_steps(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    if not 1 <= len(steps) <= MAX_STEPS:
        raise ValueError(f"a workflow has 1 to {MAX_STEPS} steps, this one has {len(steps)}")
    return steps


class Definition(BaseModel):
    """What a workflow does. `parse` makes one from what somebody wrote, `from_json` from what `to_json` kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["Workflow"] = "Workflow"
    name: Annotated[str, AfterValidator(_name)]
    description: str = ""
    timeout: Annotated[Duration, AfterValidator(_positive)] | None = None
    steps: Annotated[tuple[Step, ...], AfterValidator(_some_steps)]
    on_failure: Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)] = ()

    def to_json(self) -> dict[str, Json]:
        """The definition in full, defaults written out."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, kept: Mapping[str, Json]) -> Self:
        """The definition that `to_json` wrote; nothing is checked again but the types."""
        return cls.model_validate(kept)


def parse(text: str) -> Definition:
    """The definition that the YAML (or JSON) means, checked whole: fields, ids, actions, expressions, references.

    What a step's action checks by itself (`Action.check`) may ask the database. Raises DefinitionError with all that is
    wrong at once.
    """
    document = _document(text)
    problems = [
        Problem(dotted(path), document.line(path), message)
        for path, message in [*complaints(Definition, document.data), *_step_problems(document.data)]
    ]
    if problems:
        raise DefinitionError(problems)
    return Definition.model_validate(document.data)


def _document(text: str) -> Document:
    try:
        found = documents.read(text)
    except DocumentError as error:
        raise DefinitionError([Problem("", line, message) for line, message in error.problems]) from error
    if len(found) != 1 or not isinstance(found[0].data, dict):
        raise DefinitionError([Problem("", 1, "a workflow is one YAML document with the fields name and steps")])
    return found[0]


def _step_problems(data: Mapping[str, Json]) -> Iterator[tuple[Path, str]]:
    """What is wrong with the steps beyond their fields' types. Looks at each step whatever is wrong with the others."""
    earlier: dict[str, str] = {}
    for section, variables in (("steps", VARIABLES), ("on_failure", FAILURE_VARIABLES)):
        steps = data.get(section)
        for index, step in enumerate(steps if isinstance(steps, list) else ()):
            if not isinstance(step, dict):
                continue
            path = (section, index)
            yield from _expression_problems(step, path, variables, earlier)
            yield from _action_problems(step, path)
            id_ = step.get("id")
            if isinstance(id_, str):
                if id_ in earlier:
                    yield (*path, "id"), f'the id "{id_}" is taken by {earlier[id_]}'
                earlier.setdefault(id_, dotted(path))


def _expression_problems(
    step: Mapping[str, Json], path: Path, variables: Collection[str], earlier: Collection[str]
) -> Iterator[tuple[Path, str]]:
    for place in _dynamic_keys(step.get("with"), (*path, "with")):
        yield place, "a key cannot hold an expression; only values can"
    for place, text, embedded in _texts(step, path):
        try:
            found: Sequence[Expression]
            found = compile_values(text, variables).expressions if embedded else [compile_expression(text, variables)]
        except ExpressionError as error:
            position = f"column {error.column}" if error.line == 1 else f"line {error.line}, column {error.column}"
            yield place, f"{error.message} (at {position} of {text.strip()!r})"
            continue
        for id_ in sorted({id_ for expression in found for id_ in _steps_read(expression)} - set(earlier)):
            yield place, unknown("earlier step", id_, list(earlier))


def _texts(step: Mapping[str, Json], path: Path) -> Iterator[tuple[Path, str, bool]]:
    """The texts of a step that hold expressions: (path, text, whether they stand inside `${{ }}`)."""
    if isinstance(step.get("if"), str):
        yield (*path, "if"), step["if"], False
    for place, text in _leaves(step.get("with"), (*path, "with")):
        if is_dynamic(text):
            yield place, text, True


def _leaves(value: Json, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _leaves(member, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))


def _dynamic_keys(value: Json, path: Path) -> Iterator[Path]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        if isinstance(value, dict) and is_dynamic(key):
            yield (*path, key)
        yield from _dynamic_keys(member, (*path, key))


def _steps_read(expression: Expression) -> Iterator[str]:
    """The ids in `steps.<id>` and `steps["<id>"]`."""
    for read in expression.paths:
        if match := re.match(r'steps(?:\.(\w+)|\["([^"]*)"\])', read):
            yield match[1] or match[2]


def _action_problems(step: Mapping[str, Json], path: Path) -> Iterator[tuple[Path, str]]:
    name, given = step.get("action"), step.get("with", {})
    if not isinstance(name, str):
        return
    if name not in actions:
        yield (*path, "action"), unknown("action", name, actions.names())
        return
    if not isinstance(given, dict):
        return
    path = (*path, "with")
    found = [((*path, *inner), message) for inner, message in complaints(actions[name], given, unless=is_dynamic)]
    yield from found
    if not found:
        for inner, message in actions[name].check(given):
            yield (*path, *_parts(inner)), message


def _parts(path: str) -> Path:
    """The parts of a path that an action wrote.

    >>> _parts("to[1].name")
    ('to', 1, 'name')
    """
    return tuple(int(index) if index else key for index, key in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path))
