"""YAML as Carillon reads and writes it: JSON's types and nothing else, every value with its line.

Plain words are read by the core schema of YAML 1.2 (section 10.3.2), so `on`, `yes` and `22:00` are text and `true` and
`1.5` are not. Keys are always text. A key may stand once; tags are refused; aliases may not blow a document up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeAlias

import yaml

Json: TypeAlias = Any
Path: TypeAlias = tuple[str | int, ...]

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 50
MAX_VALUES: Final = 50_000  # with aliases written out

_PLAIN: Final[tuple[tuple[str, str, Callable[[str], Json]], ...]] = (
    ("null", r"(?:~|null|Null|NULL|)", lambda text: None),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", lambda text: text.lower() == "true"),
    ("int", r"(?:[-+]?[0-9]+)", int),
    ("int", r"(?:0o[0-7]+|0x[0-9a-fA-F]+)", lambda text: int(text, 0)),
    ("float", r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)", float),
)
_PATTERNS: Final = [(re.compile(pattern), convert) for _, pattern, convert in _PLAIN]
_TAG = "tag:yaml.org,2002:"


class DocumentError(ValueError):
    """Text that cannot be read; `problems` are (line, message) pairs."""

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        super().__init__("\n".join(f"line {line}: {message}" for line, message in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Document:
    """One YAML document: what it says, and where."""

    data: Json
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line (from 1) of the value at `path`, or of the nearest one around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(text: str, *, max_bytes: int = MAX_BYTES) -> list[Document]:
    """The documents of a YAML stream (JSON is YAML too); empty ones are left out. Raises DocumentError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise DocumentError(
            [(text.count("\n", 0, error.start) + 1, "not Unicode text: half a surrogate pair")]
        ) from error
    if size > max_bytes:
        raise DocumentError([(1, f"larger than {max_bytes // 1024} KiB")])
    return list(_Reader(text).documents())


def write(data: Json) -> str:
    """YAML that `read` reads back as `data`, in the order of its keys."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


@dataclass
class _Reader:
    # Built from events: the library's composer calls itself for each level, and deep nesting crashes the process.
    text: str
    problems: list[tuple[int, str]] = field(default_factory=list)
    lines: dict[Path, int] = field(default_factory=dict)
    anchors: dict[str, tuple[Json, int]] = field(default_factory=dict)
    values: int = 0

    def documents(self) -> Iterator[Document]:
        found = []
        try:
            self.events = yaml.parse(self.text, Loader=yaml.CSafeLoader)
            for event in self.events:
                if isinstance(event, yaml.DocumentStartEvent):
                    self.lines, self.anchors, self.values = {}, {}, 0
                    data = self._value(next(self.events), ())
                    if data is not None:
                        found.append(Document(data, self.lines))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
            self.problems.append((mark.line + 1 if mark else 1, f"not YAML: {problem}"))
        except _GiveUp:
            pass
        if self.problems:
            raise DocumentError(self.problems)
        yield from found

    def _value(self, event: Any, path: Path) -> Json:
        self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self.values
        self._count(1, event)
        if len(path) > MAX_DEPTH:
            self._give_up(event, f"nested more than {MAX_DEPTH} levels deep")
        value: Json
        if isinstance(event, yaml.SequenceStartEvent):
            self._plain_tag(event, "seq")
            value = self._sequence(path)
        elif isinstance(event, yaml.MappingStartEvent):
            self._plain_tag(event, "map")
            value = self._mapping(path)
        else:
            value = self._scalar(event)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.values - before)
        return value

    def _until(self, end: type[yaml.Event]) -> Iterator[Any]:
        while not isinstance(event := next(self.events), end):
            yield event

    def _sequence(self, path: Path) -> list[Json]:
        items: list[Json] = []
        for event in self._until(yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Json]:
        members: dict[str, Json] = {}
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._give_up(event, "a key must be plain text")
            key = self._text(event)
            if key in members:
                self._problem(
                    event, f'the key "{key}" stands here twice; the first is on line {self.lines[*path, key]}'
                )
            self.lines.setdefault((*path, key), _line(event))
            members[key] = self._value(next(self.events), (*path, key))
        return members

    def _scalar(self, event: Any) -> Json:
        text = self._text(event)
        if not event.implicit[0]:  # quoted, a block, or tagged
            self._plain_tag(event, "str")
            return text
        for pattern, convert in _PATTERNS:
            if pattern.fullmatch(text):
                try:
                    number = convert(text)
                except ValueError:  # Python refuses to read thousands of digits
                    number = float("inf")
                if number in (float("inf"), float("-inf")):
                    self._problem(event, "a number too large; write it in quotes to keep it as text")
                return number
        return text

    def _text(self, event: Any) -> str:
        text: str = event.value
        if "\0" in text:
            self._problem(event, "the character NUL, which PostgreSQL cannot keep")
        return text

    def _alias(self, event: Any) -> Json:
        if event.anchor not in self.anchors:
            self._give_up(event, f"the alias *{event.anchor} stands for nothing that was written before it")
        value, size = self.anchors[event.anchor]
        self._count(size, event)
        return value

    def _plain_tag(self, event: Any, expected: str) -> None:
        if event.tag not in (None, "!", _TAG + expected):
            self._problem(event, f"the tag {event.tag} is not known; write the value without it")

    def _count(self, values: int, event: Any) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            self._give_up(event, f"more than {MAX_VALUES} values")

    def _problem(self, event: Any, message: str) -> None:
        self.problems.append((_line(event), message))

    def _give_up(self, event: Any, message: str) -> NoReturn:
        self._problem(event, message)
        raise _GiveUp


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _GiveUp(Exception):
    """What follows in the text cannot be understood."""


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the words that `read` would not take for text."""

    yaml_implicit_resolvers: dict[Any, Any] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        if any(separator in text for separator in "\x85\u2028\u2029"):  # a line end to YAML 1.1 only
            return self.represent_scalar(_TAG + "str", text, style='"')
        return self.represent_scalar(_TAG + "str", text, style="|" if "\n" in text else None)


for _kind, _pattern, _ in _PLAIN:
    _Dumper.add_implicit_resolver(_TAG + _kind, re.compile(rf"{_pattern}\Z"), None)
_Dumper.add_representer(str, _Dumper.represent_text)
