"""One SQL statement with parameters `:name`: what it is, and how a driver takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

Json: TypeAlias = Any

VERBS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH", "VALUES", "CALL")
"""What a statement may begin with: what can be undone together with the record that it was done."""

MAX_LIST: Final = 1000

_STRING: Final = r"'(?:[^']|'')*'"
_ESCAPED: Final = r"'(?:[^'\\]|\\.|'')*'"
_NAME: Final = r'"(?:[^"]|"")*"'
_COMMENT: Final = r"/\*.*?\*/"
_DOLLARS: Final = r"(?<!\w)\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"
# What is passed on as it stands. Whether a backslash escapes, and what begins a comment, is not the same everywhere.
_QUOTED: Final = {
    "postgresql": rf"(?<!\w)[eE]{_ESCAPED}|{_STRING}|{_NAME}|{_DOLLARS}|{_COMMENT}|--[^\n]*",
    "mysql": rf'{_ESCAPED}|"(?:[^"\\]|\\.|"")*"|`[^`]*`|{_COMMENT}|--(?=\s|$)[^\n]*|#[^\n]*',
    "sqlite": rf"{_STRING}|{_NAME}|`[^`]*`|\[[^\]]*\]|{_COMMENT}|--[^\n]*",
}
_PARAMETER: Final = r"(?P<in>\bin\s*)?(?<![:\w\\]):(?P<name>[A-Za-z_]\w*)"
_TOKENS: Final = {
    dialect: re.compile(
        rf"(?P<quoted>{quoted})|{_PARAMETER}|(?P<end>;)|(?P<open>['\"`]|/\*)|(?P<text>\w+|::|.)", re.S | re.I
    )
    for dialect, quoted in _QUOTED.items()
}


@dataclass(frozen=True)
class Parameter:
    """A place for a value; after IN (`many`) for a list of them."""

    name: str
    many: bool


@dataclass(frozen=True)
class Statement:
    """A statement in its parts: texts that go to the database as they are, and parameters between them."""

    dialect: str
    verb: str
    parts: tuple[str | Parameter, ...]

    @property
    def names(self) -> list[str]:
        """The names of its parameters, in the order they appear."""
        return list(dict.fromkeys(part.name for part in self.parts if isinstance(part, Parameter)))

    def bound(self, values: Mapping[str, Json]) -> tuple[str, tuple[Any, ...]]:
        """What the driver takes: the text with its places, and the values for them. Raises ValueError."""
        place, percent = ("?", "%") if self.dialect == "sqlite" else ("%s", "%%")
        text, given = [], []
        for part in self.parts:
            if isinstance(part, str):
                text.append(part.replace("%", percent))
            else:
                items = _items(part, values[part.name])
                text.append(f"IN ({', '.join([place] * len(items))})" if part.many else place)
                given += items
        return "".join(text), tuple(given)


def read(text: str, dialect: str) -> Statement:
    """The statement that the text is, in the database's dialect. Raises ValueError with why it is none.

    >>> statement = read("UPDATE stock SET at = '12:30', n = n - :sold WHERE sku IN :skus", "postgresql")
    >>> statement.verb, statement.names
    ('UPDATE', ['sold', 'skus'])
    >>> statement.bound({"sold": 2, "skus": ["a", "b"]})
    ("UPDATE stock SET at = '12:30', n = n - %s WHERE sku IN (%s, %s)", (2, 'a', 'b'))
    >>> read("DELETE FROM stock; DROP TABLE stock", "sqlite")
    Traceback (most recent call last):
    ...
    ValueError: holds several statements; write a step for each, or one statement WITH several parts
    """
    parts = tuple(_parts(text, dialect))
    # A comment before the first word hides it from nobody.
    bare = _TOKENS[dialect].sub(lambda token: "" if _is_comment(token["quoted"]) else token[0], text).lstrip("( \t\r\n")
    verb = re.match(r"\w*", bare)[0].upper()  # type: ignore[index]  # it matches the empty text, too
    if not verb:
        raise ValueError("holds no statement")
    if verb not in VERBS:
        raise ValueError(
            f"begins with {verb}; known: {', '.join(VERBS)}. Tables, rights and transactions are not changed by "
            "workflows: that could not be undone when the step fails"
        )
    return Statement(dialect, verb, parts)


def _parts(text: str, dialect: str) -> Iterator[str | Parameter]:
    plain, ended = "", False
    for token in _TOKENS[dialect].finditer(text):
        if token["open"]:
            raise ValueError(f"a {token['open']} at character {token.start() + 1} is not closed")
        if token["end"]:
            ended = True
            continue
        if ended and token[0].strip() and not _is_comment(token["quoted"]):
            raise ValueError("holds several statements; write a step for each, or one statement WITH several parts")
        if token["name"]:
            yield plain
            yield Parameter(token["name"], many=bool(token["in"]))
            plain = ""
        else:
            plain += token[0]
    yield plain


def _is_comment(quoted: str | None) -> bool:
    return quoted is not None and quoted.startswith(("/*", "--", "#"))


def _items(parameter: Parameter, value: Json) -> list[Any]:
    if not parameter.many:
        return [orjson.dumps(value).decode() if isinstance(value, dict | list) else value]
    if not isinstance(value, list):
        raise ValueError(f"parameters.{parameter.name}: stands after IN and should be a list")
    if not value:
        raise ValueError(f"parameters.{parameter.name}: the list is empty; give the step an `if` for that")
    if len(value) > MAX_LIST:
        raise ValueError(f"parameters.{parameter.name}: has {len(value)} items; at most {MAX_LIST} are taken")
    return [orjson.dumps(item).decode() if isinstance(item, dict | list) else item for item in value]
