"""Which fields a workflow reads: in its expressions, and in the templates that its notifications use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from notifications.catalogue import catalogue
from notifications.rendering import fields_read
from project.expressions import Expression, ExpressionError, is_dynamic
from workflows.definition import Definition, Step


@dataclass(frozen=True)
class Read:
    """A field that is read, as the names that lead to it: ("event", "data", "amount")."""

    where: str
    path: tuple[str, ...]


def reads(definition: Definition) -> Iterator[Read]:
    """Every field whose names are constant. What does not compile any more, with this release, is passed over."""
    if definition.concurrency:
        yield from _of("concurrency", definition.concurrency.keys.expressions)
    for step in (*definition.steps, *definition.on_failure):
        try:
            yield from _of(f"step {step.id}", _expressions(step))
        except ExpressionError:
            continue
        for one in (step, step.back):
            if one is not None and one.action == "notify":
                yield from _of_template(step.id, one.with_.get("template"))


def _expressions(step: Step) -> Iterator[Expression]:
    if step.condition:
        yield step.condition
    yield from step.items.expressions if step.items else ()
    yield from step.values.expressions
    yield from step.back.values.expressions if step.back else ()


def _of(where: str, expressions: Iterable[Expression]) -> Iterator[Read]:
    for path in dict.fromkeys(path for expression in expressions for path in expression.fields):
        yield Read(where, path)


def _of_template(step: str, name: object) -> Iterator[Read]:
    template = catalogue().templates.get(name) if isinstance(name, str) and not is_dynamic(name) else None
    if template is not None:
        for path in sorted(fields_read(template.sources, template.languages)):
            yield Read(f"template {template.name}, for step {step}", path)
