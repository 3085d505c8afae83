"""Liquid templates: checked when saved, compiled once, rendered within limits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from itertools import takewhile
from typing import Any, ClassVar, Final

from django.utils.html import strip_tags
from liquid import BoundTemplate, Environment
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.exceptions import LiquidError, UndefinedError
from liquid.extra.filters import JSON
from liquid.undefined import FalsyStrictUndefined

PARTS: Final = ("subject", "text", "html")
LONGEST_SUBJECT: Final = 250
FILTER_LIMIT: Final = 16_000_000  # characters or items
LONGEST_RANGE: Final = 10_000
LARGEST_INTEGER: Final = 1024  # bits


class RenderError(ValueError):
    """A template cannot be rendered for this context; names the template, the part and the line.

    `reason` says why, with the line (`line 2: …`) where there is one, without the template and the part.
    """

    def __init__(self, name: str, part: str, reason: str) -> None:
        super().__init__(f"template {name}, {part}{',' if reason.startswith('line ') else ':'} {reason}")
        self.part = part
        self.reason = reason


class _Missing(FalsyStrictUndefined):
    """A variable that is not there: false in conditions, replaced by `default`, an error where it would be shown.

    Rendering it as nothing would send half a message that nobody notices.
    """

    def __eq__(self, other: object) -> bool:
        return other is False or other is None or isinstance(other, _Missing)

    __hash__ = FalsyStrictUndefined.__hash__


class _Limited(Environment):
    loop_iteration_limit: ClassVar[int | None] = 10_000
    output_stream_limit: ClassVar[int | None] = 256 * 1024  # bytes
    local_namespace_limit: ClassVar[int | None] = 256 * 1024  # bytes


def _environment(*, autoescape: bool) -> Environment:
    environment = _Limited(autoescape=autoescape, undefined=_Missing)
    environment.add_filter("json", JSON())
    environment.filters = {name: _bounded(name, apply) for name, apply in environment.filters.items()}
    for tag in ("include", "render"):  # there is nowhere to include from
        del environment.tags[tag]
    return environment


def _bounded(name: str, apply: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, refusing what would make it eat the memory: Liquid's own limits look at loops and output only.

    A chain of `replace` and a loop of `times` ended the process in our tests.
    """

    def bounded(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, _Missing) and name != "default":
            raise UndefinedError(value.msg, token=value.token)
        longest = max((len(arg) for arg in args if isinstance(arg, str)), default=1)
        if isinstance(value, str | list) and len(value) * max(longest, 1) > FILTER_LIMIT:
            raise LiquidError(f"{name}: the value is too long for it", token=None)
        result = apply(value, *args, **kwargs)
        if isinstance(result, int) and result.bit_length() > LARGEST_INTEGER:
            raise LiquidError(f"{name}: the number is too large", token=None)
        return result

    vars(bounded).update(vars(apply))  # with_context and with_environment, which say what it wants besides
    return bounded


def _bounded_range(literal: RangeLiteral, start: Any, stop: Any) -> range:
    numbers = _make_range(literal, start, stop)
    # Not len(): it fails for ranges that do not fit into a machine word.
    if numbers and numbers[-1] - numbers[0] >= LONGEST_RANGE:
        raise LiquidError(f"a range has at most {LONGEST_RANGE} numbers", token=literal.token)
    return numbers


# Ranges are made in this one place; `reversed` and filters turn them into lists: (1..1000000000) took all the memory.
_make_range = RangeLiteral._make_range
RangeLiteral._make_range = _bounded_range  # type: ignore[method-assign,assignment]

_PLAIN, _HTML = _environment(autoescape=False), _environment(autoescape=True)


def in_language(
    sources: Mapping[str, str], languages: Mapping[str, Mapping[str, str]], language: str
) -> dict[str, str]:
    """A template's parts for a reader of `language`: de-AT, then de, then the template's own, part by part.

    >>> in_language({"subject": "Paid", "text": "Thanks."}, {"de": {"subject": "Bezahlt"}}, "de-AT")
    {'subject': 'Bezahlt', 'text': 'Thanks.'}
    """
    known = {_tag(name): parts for name, parts in languages.items()}
    exact = _tag(language)
    return {**sources, **known.get(exact.partition("-")[0], {}), **known.get(exact, {})}


def render(name: str, sources: Mapping[str, str], parts: Collection[str], context: Mapping[str, Any]) -> dict[str, str]:
    """The parts of the template `name` with the context's values; a subject becomes one line.

    Raises:
        RenderError: a variable is missing, a filter fails, a limit is passed, or the template is not Liquid.
    """
    return {part: _render(name, part, sources[part], context) for part in PARTS if part in parts and sources.get(part)}


def render_message(
    name: str, sources: Mapping[str, str], parts: Collection[str], context: Mapping[str, Any]
) -> dict[str, str]:
    """What a channel that sends these parts is given: `render`, and the words of the HTML where there is no text."""
    from_html = "text" in parts and not sources.get("text")
    rendered = render(name, sources, {*parts, "html"} if from_html else parts, context)
    if from_html and "html" in rendered:
        rendered["text"] = strip_tags(rendered["html"]).strip()
    return {part: words for part, words in rendered.items() if part in parts}


def missing_variables(source: str, context: Mapping[str, Any], *, html: bool) -> list[tuple[str, int]]:
    """What the template reads and the context has not, each with the first line that does, in their order.

    That need not be a mistake: a template may ask first. Nothing for what is not Liquid.
    """
    try:
        template = _compile(source, html)
    except LiquidError:
        return []
    found = [
        (place.span.index, str(place))
        for places in template.analyze().globals.values()
        for place in places
        if not _has(context, place.segments)
    ]
    return [(name, source.count("\n", 0, at) + 1) for name, at in _first_of_each(sorted(found))]


def _first_of_each(found: Iterable[tuple[int, str]]) -> list[tuple[str, int]]:
    first: dict[str, int] = {}
    for at, name in found:
        first.setdefault(name, at)
    return list(first.items())


def _has(context: Any, segments: Iterable[Any]) -> bool:
    value = context
    for segment in segments:
        if not isinstance(segment, str | int):
            return True  # a name that is itself a variable: nobody knows
        if isinstance(value, Mapping) and segment in value:
            value = value[segment]
        elif isinstance(value, str | list | Mapping) and segment in ("size", "first", "last"):
            return True
        elif isinstance(value, list) and isinstance(segment, int) and -len(value) <= segment < len(value):
            value = value[segment]
        else:
            return False
    return True


def check_template(*, subject: str, text: str, html: str, languages: Any) -> list[tuple[str, str]]:
    """What is wrong with a template somebody wants to save, as (field path, message) pairs."""
    sources = {"subject": subject, "text": text, "html": html}
    problems = list(_syntax_problems("", sources))
    if not any(source.strip() for source in sources.values()):
        problems.append(("text", "a template says nothing without a subject, a text or html"))
    if not isinstance(languages, dict):
        return [*problems, ("languages", 'must be an object like {"de": {"subject": "…"}}')]
    for language, overrides in languages.items():
        path = f"languages.{language}"
        if not isinstance(overrides, dict):
            problems.append((path, f"must be an object with some of {', '.join(PARTS)}"))
            continue
        problems += [
            (f"{path}.{part}", f"unknown part; known: {', '.join(PARTS)}") for part in overrides if part not in PARTS
        ]
        problems += _syntax_problems(f"{path}.", {part: overrides[part] for part in PARTS if part in overrides})
    return problems


def _syntax_problems(prefix: str, sources: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for part, source in sources.items():
        if not isinstance(source, str):
            yield prefix + part, "must be text"
            continue
        try:
            template = _compile(source, part == "html")
        except LiquidError as error:
            yield prefix + part, _explain(error)
            continue
        for name, places in template.analyze().filters.items():
            if name not in template.env.filters:
                line, _ = places[0].line_col(source)
                yield (
                    prefix + part,
                    f'line {line}: unknown filter "{name}"; known: {", ".join(sorted(template.env.filters))}',
                )


def fields_read(sources: Mapping[str, str], languages: Mapping[str, Mapping[str, str]]) -> frozenset[tuple[str, ...]]:
    """The fields that a template reads in any language, as the names that lead to each; up to where a list begins.

    >>> sorted(fields_read({"text": "{{ event.data.items[0].sku }} {{ event.id }}"}, {}))
    [('event', 'data', 'items'), ('event', 'id')]
    """
    found: set[tuple[str, ...]] = set()
    for parts in (sources, *languages.values()):
        for part, source in parts.items():
            try:
                variables = _compile(source, part == "html").analyze().globals
            except LiquidError:  # saved by another release, perhaps
                continue
            found.update(_names(variable.segments) for several in variables.values() for variable in several)
    return frozenset(found)


_OF_LISTS: Final = ("size", "first", "last")  # what Liquid says of a list or a text; no fields


def _names(segments: Iterable[Any]) -> tuple[str, ...]:
    return tuple(takewhile(lambda part: isinstance(part, str) and part not in _OF_LISTS, segments))


def _render(name: str, part: str, source: str, context: Mapping[str, Any]) -> str:
    try:
        rendered = _compile(source, part == "html").render(context)
    except LiquidError as error:
        raise RenderError(name, part, _explain(error)) from error
    except Exception as error:  # a filter given what it was not made for: the template's fault, whatever it raises
        raise RenderError(name, part, f"{type(error).__name__}: {error}") from error
    return _one_line(rendered) if part == "subject" else rendered


@lru_cache(maxsize=1000)
def _compile(source: str, html: bool) -> BoundTemplate:
    return (_HTML if html else _PLAIN).from_string(source)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SUBJECT else line[: LONGEST_SUBJECT - 1] + "…"


def _explain(error: LiquidError) -> str:
    try:
        context = error.context()
    except ValueError:  # the position is the end of the text
        context = None
    return f"line {context[0]}: {error.message}" if context else str(error.message)


def _tag(language: str) -> str:
    return language.replace("_", "-").lower()
