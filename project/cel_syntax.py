"""The shape of a CEL expression: tokens, brackets, clauses, names, paths. It reads what `cel` only evaluates.

Follows the lexis of https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})

_LEXIS = re.compile(
    r"""
      (?P<space> \s+ | //[^\n]* )
    | (?P<string>
          [bB]?[rR] (?: \"{3} .*? \"{3} | '{3} .*? '{3} | "[^"\r\n]*" | '[^'\r\n]*' )
        | [bB]?     (?: \"{3} (?:\\.|[^\\])*? \"{3} | '{3} (?:\\.|[^\\])*? '{3}
                      | "(?:\\.|[^"\\\r\n])*" | '(?:\\.|[^'\\\r\n])*' ) )
    | (?P<number> 0x[0-9a-fA-F]+[uU]? | (?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]? )
    | (?P<name> [_a-zA-Z][_a-zA-Z0-9]* )
    | (?P<operator> && | \|\| | == | != | <= | >= | [-+*/%<>!?:.,()\[\]{}] )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_RELATIONS = frozenset({"<", "<=", ">", ">=", "==", "!=", "in"})
# From the weakest to the strongest; every one of these groups to the left.
_BINARY = (frozenset({"||"}), frozenset({"&&"}), _RELATIONS, frozenset({"+", "-"}), frozenset({"*", "/", "%"}))


class UnreadableText(ValueError):
    """No CEL token begins at `offset`."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    kind: Literal["string", "number", "name", "literal", "operator"]
    text: str
    start: int
    depth: int
    """How many brackets are open around it; a bracket itself counts as outside."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def ends_operand(self) -> bool:
        """Whether a value can end here, so that a following `-` or `[` belongs to it."""
        return self.kind != "operator" or self.text in ")]}"


@dataclass(frozen=True, slots=True)
class Path:
    """A field that is read by constant names only: `event.data.amount`, `event.data["a-b"]`."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        first, *rest = self.parts
        return first + "".join(f".{part}" if part.isidentifier() else f'["{part}"]' for part in rest)


@dataclass(frozen=True, slots=True)
class Name:
    """A variable or function where it is used."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A macro call `list.map(x, …)`: its variable, and the tokens from its name to its closing bracket."""

    macro: str
    variable: Name
    first: int
    last: int


def end_of_embedded(text: str, start: int) -> int:
    """Where the `}}` is that closes an expression beginning at `start`; -1 if nowhere. Raises UnreadableText.

    Strings and map literals in the expression may hold `}}` themselves.
    """
    depth = 0
    while start < len(text):
        if depth == 0 and text.startswith("}}", start):
            return start
        match = _match(text, start)
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        start = match.end()
    return -1


def tokenize(source: str) -> list[Token]:
    """The tokens of the expression, without blanks and comments. Raises UnreadableText."""
    tokens: list[Token] = []
    depth = position = 0
    while position < len(source):
        match = _match(source, position)
        kind, text = match.lastgroup, match[0]
        if text in ("]", ")", "}"):
            depth -= 1
        if text == "in":
            kind = "operator"
        elif text in ("true", "false", "null"):
            kind = "literal"
        if kind != "space":
            tokens.append(Token(kind, text, position, depth))  # type: ignore[arg-type]  # the groups' names
        if text in _CLOSING:
            depth += 1
        position = match.end()
    return tokens


def _match(text: str, position: int) -> re.Match[str]:
    match = _LEXIS.match(text, position)
    if match:
        return match
    if text[position] in "\"'":
        raise UnreadableText("this string is not closed", position)
    hint = '; a field of this name is read as x["name"]' if text[position] == "`" else ""
    raise UnreadableText(f"unexpected character {text[position]}{hint}", position)


def text_of(tokens: Sequence[Token]) -> str:
    """The tokens as one line: blanks and comments between them become one space."""
    parts = []
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        parts.append(token.text)
        if after is not None and token.end < after.start:
            parts.append(" ")
    return "".join(parts)


def unwrapped(tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens without brackets around the whole."""
    while len(tokens) > 2 and tokens[0].text == "(" and _closing(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def clauses(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """The parts that a top-level `&&` joins; the whole as one part where `||` or `?:` is weaker than it."""
    tokens = unwrapped(tokens)
    top = _top(tokens)
    if any(tokens[index].text in ("||", "?") for index in top):
        return [tokens]
    cuts = [-1, *(index for index in top if tokens[index].text == "&&"), len(tokens)]
    return [tokens[before + 1 : cut] for before, cut in pairwise(cuts)]


def operation(tokens: Sequence[Token]) -> tuple[Sequence[Token], str, Sequence[Token]] | None:
    """The outermost operation: left side, operator, right side; None where there is none.

    The left side of `!` and of a `-` before an operand is empty.
    """
    tokens = unwrapped(tokens)
    top = [index for index in _top(tokens) if index and tokens[index - 1].ends_operand]
    if any(tokens[index].text == "?" for index in top):
        return None
    for operators in _BINARY:
        for index in reversed(top):
            if tokens[index].text in operators:
                return tokens[:index], tokens[index].text, tokens[index + 1 :]
    return (tokens[:0], tokens[0].text, tokens[1:]) if tokens and tokens[0].text in ("!", "-") else None


def loops(tokens: Sequence[Token]) -> list[Loop]:
    """Every macro call with a loop variable, in order."""
    found = []
    for index, token in enumerate(tokens):
        method = index > 0 and tokens[index - 1].text == "." and _text(tokens, index + 1) == "("
        if method and token.text in MACROS and _text(tokens, index + 3) == ",":
            variable = Name(tokens[index + 2].text, tokens[index + 2].start)
            found.append(Loop(token.text, variable, index, _closing(tokens, index + 1)))
    return found


def functions(tokens: Sequence[Token]) -> Iterator[Name]:
    """Every function and macro that is called, as `f(x)` or `x.f()`."""
    for token, after in pairwise(tokens):
        if token.kind == "name" and after.text == "(":
            yield Name(token.text, token.start)


def variables(tokens: Sequence[Token]) -> Iterator[tuple[Name, Path]]:
    """Every variable that is read, with its path; loop variables are left out where they are bound."""
    bound = loops(tokens)
    for index, token in enumerate(tokens):
        previous = tokens[index - 1].text if index else ""
        if token.kind != "name" or previous == "." or _text(tokens, index + 1) == "(":
            continue
        if not any(loop.variable.text == token.text and loop.first < index < loop.last for loop in bound):
            yield Name(token.text, token.start), _path(tokens, index)


def path_of(tokens: Sequence[Token]) -> Path | None:
    """The path, if the tokens are a path and nothing else."""
    tokens = unwrapped(tokens)
    if not tokens or tokens[0].kind != "name":
        return None
    path = _path(tokens, 0)
    return path if str(path) == text_of(tokens) else None


def _path(tokens: Sequence[Token], index: int) -> Path:
    parts = [tokens[index].text]
    while True:
        one, two, three = (_text(tokens, index + offset) for offset in (1, 2, 3))
        if one == "." and three != "(" and two.isidentifier():
            parts.append(two)
            index += 2
        elif one == "[" and three == "]" and re.fullmatch(r"""'[^'\\]*'|"[^"\\]*\"""", two):
            parts.append(two[1:-1])
            index += 3
        else:
            return Path(tuple(parts))


def _text(tokens: Sequence[Token], index: int) -> str:
    return tokens[index].text if index < len(tokens) else ""


def _top(tokens: Sequence[Token]) -> list[int]:
    """Where the tokens are that no bracket among them encloses."""
    outermost = min((token.depth for token in tokens), default=0)
    return [index for index, token in enumerate(tokens) if token.depth == outermost]


def _closing(tokens: Sequence[Token], opening: int) -> int:
    depth = tokens[opening].depth
    after = range(opening + 1, len(tokens))
    return next((index for index in after if tokens[index].depth == depth), len(tokens))
