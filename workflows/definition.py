"""The workflow language: from YAML to steps that are ready to run. The language itself knows no table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
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
"""Steps under `on_failure`, and those that undo another, also see `failure`: {step, error}."""
ITEM_VARIABLES: Final = ("item", "index")
"""Steps with `for_each` also see the item of the list, and its place in it, from 0."""
ALL_VARIABLES: Final = (*FAILURE_VARIABLES, *ITEM_VARIABLES)

MAX_STEPS: Final = 200
MAX_ITEMS: Final = 1000


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


def _list(value: Json) -> Json:
    if isinstance(value, str) and not re.fullmatch(r"\s*\$\{\{.*\}\}\s*", value, re.DOTALL):
        raise ValueError("is a list, or ${{ an expression that is one }}")
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        raise ValueError(f"has at most {MAX_ITEMS} items, not {len(value)}")
    return value


def _condition(value: Json) -> Json:
    return str(value).lower() if isinstance(value, bool) else value  # `if: false` switches a step off


_WRITTEN: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)  # the editor tells them


class Undo(BaseModel):
    """What takes a step back when a later one fails."""

    model_config = _WRITTEN

    action: str
    with_: Annotated[dict[str, Any], Field(alias="with")] = {}
    retry: RetryPolicy | None = None
    timeout: Annotated[Duration, AfterValidator(_positive)] | None = None


class Step(BaseModel):
    """One step, as it was written, and compiled at first use."""

    model_config = _WRITTEN

    id: Annotated[str, AfterValidator(_identifier)]
    """Names it: small letters, digits and underscores."""
    action: str
    """What it does."""
    needs: tuple[str, ...] | None = None
    """The steps that must have ended before it begins."""
    if_: Annotated[str | None, BeforeValidator(_condition), Field(alias="if")] = None
    """An expression; when it is not true, the step is skipped."""
    for_each: Annotated[str | list[Any] | None, AfterValidator(_list)] = None
    """A list, or ${{ }} that is one: the step is done for each item."""
    parallel: Annotated[int, Field(ge=1, le=MAX_ITEMS)] | None = None
    """How many items may be under way at once."""
    with_: Annotated[dict[str, Any], Field(alias="with")] = {}
    """What the action takes; values may hold ${{ }}."""
    retry: RetryPolicy | None = None
    """How often it is tried, and with what pauses."""
    timeout: Annotated[Duration, AfterValidator(_positive)] | None = None
    """How long it may take or wait."""
    on_error: Literal["fail", "continue"] = "fail"
    """continue: the run goes on when it fails."""
    undo: Undo | None = None
    """An action that takes it back when a later step fails."""

    @cached_property
    def condition(self) -> Expression | None:
        """Its `if`; None: it always runs."""
        return None if self.if_ is None else compile_expression(self.if_, ALL_VARIABLES)

    @cached_property
    def asks_each(self) -> bool:
        """Whether its `if` is asked for each item of its list, because it reads the item."""
        read = self.condition.paths if self.condition else frozenset[str]()
        return any(re.split(r"[.\[]", path, maxsplit=1)[0] in ITEM_VARIABLES for path in read)

    @cached_property
    def items(self) -> Values | None:
        """Its `for_each`; None: it does not loop."""
        return None if self.for_each is None else compile_values(self.for_each, FAILURE_VARIABLES)

    @cached_property
    def values(self) -> Values:
        """Its `with`; render them for a run, then fill `action_class` with the result."""
        return compile_values(self.with_, ALL_VARIABLES)

    @cached_property
    def action_class(self) -> type[Action]:
        """What does it. Raises UnknownName when the action was there at publication and is no more."""
        return actions[self.action]

    @cached_property
    def back(self) -> Step | None:
        """The step that undoes it, one item after the other if it loops; None: nothing does."""
        if self.undo is None:
            return None
        return Step.model_construct(  # its id is none that somebody could write
            id=f"{self.id}{UNDOES}",
            action=self.undo.action,
            for_each=self.for_each,
            parallel=1,
            with_=self.undo.with_,
            retry=self.undo.retry,
            timeout=self.undo.timeout,
            on_error="continue",
        )


UNDOES: Final = ".undo"


def _some_steps(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    if not 1 <= len(steps) <= MAX_STEPS:
        raise ValueError(f"a workflow has 1 to {MAX_STEPS} steps, this one has {len(steps)}")
    return steps


class Concurrency(BaseModel):
    """How many runs with the same key may be at work, and what becomes of one that is too many."""

    model_config = _WRITTEN

    key: str
    limit: int = Field(1, ge=1, le=1000)
    on_conflict: Literal["queue", "skip", "replace"] = "queue"

    @cached_property
    def keys(self) -> Values:
        """The key, compiled; render it for a run."""
        return compile_values(self.key, VARIABLES)


class Definition(BaseModel):
    """What a workflow does. `parse` makes one from what somebody wrote, `from_json` from what `to_json` kept."""

    model_config = _WRITTEN

    kind: Literal["Workflow"] = "Workflow"
    name: Annotated[str, AfterValidator(_name)]
    """Small letters, digits, dots, dashes and underscores; it never changes."""
    description: str = ""
    """What it is for."""
    concurrency: Concurrency | None = None
    """How many runs with the same key may be at work."""
    timeout: Annotated[Duration, AfterValidator(_positive)] | None = None
    """How long a run may take, retries and waits included."""
    steps: Annotated[tuple[Step, ...], AfterValidator(_some_steps)]
    """Done in order, or as a graph when one says what it needs."""
    on_failure: Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)] = ()
    """Steps that are done when one has failed for good."""

    @cached_property
    def approvals(self) -> tuple[Step, ...]:
        """The steps that wait for a person."""
        return tuple(step for step in self._by_id.values() if step.action == "approval")

    def step(self, id_: str) -> Step:
        """The step with this id, among its own, those of `on_failure`, and those that undo one (`book.undo`)."""
        return self._by_id[id_]

    @cached_property
    def _by_id(self) -> dict[str, Step]:
        steps = (*self.steps, *(step.back for step in self.steps if step.back), *self.on_failure)
        return {step.id: step for step in steps}

    def to_json(self) -> dict[str, Json]:
        """The definition in full, defaults written out."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, kept: Mapping[str, Json]) -> Self:
        """The definition that `to_json` wrote; nothing is checked again but the types."""
        return cls.model_validate(kept)


def needs_of(steps: Sequence[tuple[str, Sequence[str] | None]]) -> dict[str, tuple[str, ...]]:
    """What each step waits for, given the steps' ids with their `needs`.

    Steps run in the order they are written, unless one says what it needs: then all wait for just what they need.

    >>> needs_of([("a", None), ("b", None)]), needs_of([("a", None), ("b", None), ("c", ["a", "b"])])
    ({'a': (), 'b': ('a',)}, {'a': (), 'b': (), 'c': ('a', 'b')})
    """
    if any(needs is not None for _, needs in steps):
        return {id_: tuple(needs or ()) for id_, needs in steps}
    before = [(), *((id_,) for id_, _ in steps)]
    return {id_: needs for (id_, _), needs in zip(steps, before, strict=False)}


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
    taken: dict[str, str] = {}
    own = _dicts(data.get("steps"))
    before: dict[str, list[str]] = {}
    for index, step in own:
        yield from _id_problems(step, ("steps", index), taken)
    for index, message in _need_problems(own, before):
        yield ("steps", index, "needs"), message
    known: dict[str, None] = {}  # the ids so far, where the order is all that is known
    for index, step in own:
        path = ("steps", index)
        id_ = step.get("id")
        earlier = before.get(id_, list(known)) if isinstance(id_, str) else list(known)
        yield from _problems_of(step, path, VARIABLES, earlier)
        if isinstance(id_, str):
            known[id_] = None
        undo = step.get("undo")
        if isinstance(undo, dict):
            loop = {"for_each": step.get("for_each")} if "for_each" in step else {}
            variables = FAILURE_VARIABLES
            for place, message in _problems_of({**undo, **loop}, (*path, "undo"), variables, list(taken)):
                if place[3:4] != ("for_each",):  # said of the step itself
                    yield place, message
    for index, step in _dicts(data.get("on_failure")):
        path = ("on_failure", index)
        yield from _problems_of(step, path, FAILURE_VARIABLES, list(taken))
        yield from _id_problems(step, path, taken)
        for name in ("needs", "undo"):
            if step.get(name) is not None:
                yield (*path, name), f"steps under on_failure run in their order and cannot have {name}"
    concurrency = data.get("concurrency")
    if isinstance(concurrency, dict) and isinstance(concurrency.get("key"), str):
        yield from _expressions(concurrency["key"], True, ("concurrency", "key"), ("event", "run"), ())


def _dicts(steps: Json) -> list[tuple[int, dict[str, Json]]]:
    return [(i, step) for i, step in enumerate(steps if isinstance(steps, list) else ()) if isinstance(step, dict)]


def _id_problems(step: Mapping[str, Json], path: Path, taken: dict[str, str]) -> Iterator[tuple[Path, str]]:
    id_ = step.get("id")
    if isinstance(id_, str):
        if id_ in taken:
            yield (*path, "id"), f'the id "{id_}" is taken by {taken[id_]}'
        taken.setdefault(id_, dotted(path))


def _need_problems(
    steps: Sequence[tuple[int, Mapping[str, Json]]], before: dict[str, list[str]]
) -> Iterator[tuple[int, str]]:
    """What is wrong with the steps' `needs`; fills `before` with the steps done before each, if they are a graph."""
    ids = [step["id"] for _, step in steps if isinstance(step.get("id"), str)]
    needs = {}
    for index, step in steps:
        wanted = step.get("needs")
        names = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
        for name in names:
            if name not in ids:
                yield index, unknown("step", name, ids)
        if isinstance(step.get("id"), str):
            needs[step["id"]] = [name for name in names if name in ids]
    if not any(step.get("needs") is not None for _, step in steps):
        return
    try:
        for id_ in TopologicalSorter(needs).static_order():
            before[id_] = list(dict.fromkeys(far for near in needs[id_] for far in (*before[near], near)))
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        index = next(index for index, step in steps if step.get("id") == circle[0])
        yield index, f"goes in a circle: {' needs '.join(circle)}"
        before.update(dict.fromkeys(ids, ids))


def _problems_of(
    step: Mapping[str, Json], path: Path, variables: Collection[str], earlier: Collection[str]
) -> Iterator[tuple[Path, str]]:
    yield from _expression_problems(step, path, variables, earlier)
    yield from _action_problems(step, path)
    if step.get("action") == "approval" and step.get("for_each") is not None:
        yield (*path, "for_each"), "an approval has one link and one answer, so it cannot loop"
    if step.get("parallel") is not None and step.get("for_each") is None:
        yield (*path, "parallel"), "bounds the items of for_each, and there is no for_each"


def _expression_problems(
    step: Mapping[str, Json], path: Path, variables: Collection[str], earlier: Collection[str]
) -> Iterator[tuple[Path, str]]:
    for place in _dynamic_keys(step.get("with"), (*path, "with")):
        yield place, "a key cannot hold an expression; only values can"
    inside = (*variables, *ITEM_VARIABLES) if step.get("for_each") is not None else variables
    if isinstance(step.get("if"), str):
        yield from _expressions(step["if"], False, (*path, "if"), inside, earlier)
    for place, text in _leaves(step.get("for_each"), (*path, "for_each")):
        yield from _expressions(text, True, place, variables, earlier)
    for place, text in _leaves(step.get("with"), (*path, "with")):
        yield from _expressions(text, True, place, inside, earlier)


def _expressions(
    text: str, embedded: bool, place: Path, variables: Collection[str], earlier: Collection[str]
) -> Iterator[tuple[Path, str]]:
    """What is wrong with a text that is an expression, or has some `embedded` in `${{ }}`."""
    if embedded and not is_dynamic(text):
        return
    try:
        found: Sequence[Expression]
        found = compile_values(text, variables).expressions if embedded else [compile_expression(text, variables)]
    except ExpressionError as error:
        position = f"column {error.column}" if error.line == 1 else f"line {error.line}, column {error.column}"
        yield place, f"{error.message} (at {position} of {text.strip()!r})"
        return
    for id_ in sorted({id_ for expression in found for id_ in _steps_read(expression)} - set(earlier)):
        yield place, unknown("earlier step", id_, list(earlier))


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
