"""CEL: filters and conditions that say why, and `${{ … }}` in values.

CEL is described at https://cel.dev; the package `cel` evaluates it in Rust. An expression always ends, but not always
soon: nested loops ran for more than 10 seconds, and a string doubled often enough aborts the process. So an expression
is held against bounds when it is compiled, and what is compiled is safe to run.
"""

import base64
import difflib
import logging
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

import orjson

from project import cel_syntax as syntax
from project.cel_alone import cel, stdlib

Json: TypeAlias = Any

# It warns when one of our functions raises; we return that as the reason.
logging.getLogger("cel").setLevel(logging.CRITICAL)

MAX_SOURCE_BYTES = 4096
MAX_DEPTH = 32
MAX_ADDITIONS = 32
MAX_MAPS = 2
"""Each `map` can multiply the size of a value; two with all additions still stay far below what a process can hold."""
MAX_TEXT = 1 << 20
"""How many characters `replace` and `join` may produce."""

_NATIVE_FUNCTIONS = syntax.MACROS | {
    *("bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"),
    *("contains", "endsWith", "has", "matches", "size", "startsWith"),
    *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"),
    *("getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
}
_LONGEST_SHOWN = 300
_FUNCTION_ERROR = re.compile(
    r"Function '(?P<name>\w+)' error: (Python function call failed: (?P<exception>\w+): )?(?P<message>.*)"
)


class ExpressionError(ValueError):
    """The expression does not compile or breaks a bound.

    `line` and `column` count from 1; `path` leads to the expression in a tree of values.
    """

    def __init__(self, message: str, line: int = 1, column: int = 1, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.line = line
        self.column = column
        self.path = path

    def inside(self, before: str, path: str) -> "ExpressionError":
        """The same error, counted from the beginning of a text in which `before` stands before the expression."""
        lines = before.split("\n")
        column = self.column + len(lines[-1]) if self.line == 1 else self.column
        return ExpressionError(self.message, self.line + len(lines) - 1, column, path)


class EvaluationError(Exception):
    """The expression has no value for this context; `reason` says why in plain words. The same context fails again."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.reason = reason
        self.path = path


class Verdict(NamedTuple):
    """What a filter said. `reason` is empty when it matched."""

    outcome: Literal["matched", "filtered", "error"]
    reason: str = ""

    @property
    def value(self) -> bool:
        return self.outcome == "matched"


_MATCHED = Verdict("matched")


class Context:
    """The variables that expressions see: converted for CEL once, and used for many.

    Not for several threads at once.
    """

    __slots__ = ("_asked", "_cel", "_changed", "_extended", "_shown", "variables")

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables: dict[str, Json] = {name: to_json(value) for name, value in variables.items()}
        self._cel: cel.Context | None = None
        self._asked = False
        self._changed: set[str] = set()
        self._extended = False
        self._shown: dict[tuple[str, ...], str] = {}

    def set(self, name: str, value: Any) -> None:
        """Give one variable another value and leave the others converted."""
        self.variables[name] = to_json(value)
        self._changed.add(name)
        self._shown.clear()

    def native(self, expression: "Expression") -> cel.Context:
        """What `cel` takes to evaluate the expression.

        To convert a small event takes longer than twenty filters. So the first expression, often the only one, gets
        what it reads; for the second everything is converted. Our additional functions are in it, and variables that
        were set later are converted, only for who uses them.
        """
        if not self._asked:
            self._asked = True
            context = cel.Context(_pruned(self.variables, expression.longest_first))
            if expression.extended:
                context.update(_FUNCTIONS)
            return context
        if self._cel is None:
            self._cel = cel.Context(self.variables)
            self._changed.clear()
        if self._changed:
            for name in self._changed & expression.reads:
                self._cel.add_variable(name, self.variables[name])
            self._changed -= expression.reads
        if expression.extended and not self._extended:
            self._cel.update(_FUNCTIONS)
            self._extended = True
        return self._cel

    def shown(self, path: syntax.Path) -> str:
        """`event.data.amount = 120`; "" where there is nothing, or much. Hundreds of filters may show the same one."""
        text = self._shown.get(path.parts)
        if text is None:
            found, value = _field(self.variables, path)
            short = found and not isinstance(value, dict | list)
            text = f"{path} = {_shortened(orjson.dumps(value).decode(), 80)}" if short else ""
            self._shown[path.parts] = text
        return text


def make_context(**variables: Any) -> Context:
    """A context of these variables, which become JSON (see `to_json`). Raises EvaluationError for what cannot."""
    return Context(variables)


class Expression:
    """A compiled expression. Made by `compile_expression`."""

    def __init__(self, source: str, program: cel.Program, tokens: Sequence[syntax.Token]) -> None:
        self.source = source
        self._program = program
        self._tokens = tokens
        self.extended = not _FUNCTIONS.keys().isdisjoint(self.calls)
        """Whether it calls functions that are ours."""

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    @cached_property
    def paths(self) -> frozenset[str]:
        """The fields it reads, as far as their names are constant: `event.data.amount`, `steps.ack.outcome`."""
        return frozenset(str(path) for path in self._paths)

    @cached_property
    def _paths(self) -> list[syntax.Path]:
        return list(dict.fromkeys(path for _, path in syntax.variables(self._tokens)))

    @cached_property
    def equalities(self) -> "tuple[tuple[tuple[str, ...], Expression], ...]":
        """Its clauses `path == expression`, either way round: the path's names, and the other side.

        All of them hold where the expression is true.
        """
        found = []
        for clause in self._clauses:
            operation = syntax.operation(clause._tokens)
            if operation is None or operation[1] != "==":
                continue
            left, _, right = operation
            for side, other in ((left, right), (right, left)):
                if path := syntax.path_of(side):
                    found.append((path.parts, _part(other)))
        return tuple(found)

    @cached_property
    def calls(self) -> frozenset[str]:
        """The functions and macros that it calls."""
        return frozenset(name.text for name in syntax.functions(self._tokens))

    @cached_property
    def reads(self) -> frozenset[str]:
        """The variables that it reads."""
        return frozenset(name.text for name, _ in syntax.variables(self._tokens))

    @cached_property
    def longest_first(self) -> list[tuple[str, ...]]:
        """Its `fields`, each before those that take it in."""
        return sorted(self.fields, key=len, reverse=True)

    @cached_property
    def _plain(self) -> syntax.Path | None:
        """The field that it is, when it is nothing else."""
        return syntax.path_of(self._tokens)

    @cached_property
    def _text(self) -> str:
        return _shortened(syntax.text_of(self._tokens), _LONGEST_SHOWN)

    @cached_property
    def _telling(self) -> list[syntax.Path]:
        """The fields whose values tell why it is false: the first three, unless it is nothing but a field."""
        return [] if self._plain else self._paths[:3]

    @cached_property
    def _clauses(self) -> list["Expression"]:
        parts = syntax.clauses(self._tokens)
        return [self] if len(parts) == 1 else [_part(tokens) for tokens in parts]

    @cached_property
    def fields(self) -> tuple[tuple[str, ...], ...]:
        """The same as the names that lead to each: ("event", "data", "amount")."""
        return tuple(path.parts for path in self._paths)

    def evaluate(self, context: Context) -> Json:
        """Its value as JSON. Raises EvaluationError."""
        value = self._run(context)
        try:
            return to_json(value)
        except EvaluationError as error:
            raise EvaluationError(f"{self._text}: {error.reason}") from error

    def explain(self, context: Context) -> Verdict:
        """Whether it is true, and if not which clause decided: never raises.

        A clause is a part that a top-level `&&` joins. "filtered" is a clause that is false; "error" means that no
        clause is false but one has no value (a missing field, types that do not fit) or is neither true nor false.
        """
        try:
            value = self._run(context)
        except EvaluationError as error:
            return Verdict("error", self._first_error(context) or error.reason)
        if value is True:
            return _MATCHED
        if value is False:
            return Verdict("filtered", self._first_false(context))
        return Verdict("error", f"{self._text} is {_type_name(value)}, not true or false")

    def _run(self, context: Context) -> Any:
        if self._plain is not None:
            found, value = _field(context.variables, self._plain)
            if found:  # JSON is the same in CEL, which need not be asked; where it is not found, CEL says why
                return value
        try:
            return self._program.execute(context.native(self))
        except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise EvaluationError(self._reason(error, context)) from error
        except BaseException as error:
            # A panic in Rust arrives as pyo3_runtime.PanicException, which cannot be imported and is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise EvaluationError(f"{self._text} cannot be evaluated: {error}") from error

    def _first_false(self, context: Context) -> str:
        for clause in self._clauses:
            if clause is self or clause._value(context) is False:
                shown = ", ".join(filter(None, map(context.shown, clause._telling)))
                return f"{clause._text} is false ({shown})" if shown else f"{clause._text} is false"
        return f"{self._text} is false"

    def _first_error(self, context: Context) -> str | None:
        for clause in self._clauses:
            if clause is self:
                return None
            try:
                value = clause._run(context)
            except EvaluationError as error:
                return error.reason
            if not isinstance(value, bool):
                return f"{clause._text} is {_type_name(value)}, not true or false"
        return None

    def _value(self, context: Context) -> Any:
        """Its value for CEL; an EvaluationError as a value, where it has none."""
        try:
            return self._run(context)
        except EvaluationError as error:
            return error

    def _reason(self, error: Exception, context: Context) -> str:
        """What `cel` reported, short and in plain words."""
        message = " ".join(str(error).split()).removesuffix(" Check function arguments and their types.").rstrip(".")
        call = _FUNCTION_ERROR.match(message)
        match error:
            case KeyError():
                return f"no such key: {error.args[0]}"
            case ZeroDivisionError():
                return "division by zero"
            case TypeError():
                return _misfit(self._tokens, context) or f"the types do not fit in {self._text}{self._types(context)}"
            case RuntimeError() if message.startswith("Undefined variable or function"):
                name = message.split("'")[1]
                # A function is "undefined" also when it has no overload for what it was given.
                return self._wrong_types(name, context) if name in _KNOWN_FUNCTIONS else f"no variable {name}"
            case RuntimeError() if call and call["exception"] in ("TypeError", "AttributeError"):
                return self._wrong_types(call["name"], context)
            case RuntimeError() | ArithmeticError() if call:
                return f"{call['name']}: {call['message']}"
        return message

    def _wrong_types(self, function: str, context: Context) -> str:
        return f"{function} does not take these types in {self._text}{self._types(context)}"

    def _types(self, context: Context) -> str:
        shown = []
        for path in self._paths[:3]:
            found, value = _field(context.variables, path)
            if found:
                shown.append(f"{path} is {_type_name(value)}")
        return f" ({', '.join(shown)})" if shown else ""


def _pruned(variables: Mapping[str, Json], fields: Iterable[tuple[str, ...]]) -> dict[str, Json]:
    """What leads to these fields, and no more. Longer ones must come before those that take them in."""
    pruned: dict[str, Json] = {}
    for parts in fields:
        here, there = pruned, variables
        for part in parts[:-1]:
            value = there.get(part)
            if not isinstance(value, dict):
                break
            here, there = here.setdefault(part, {}), value
        else:
            part = parts[-1]
        if part in there:
            here[part] = there[part]
    return pruned


def compile_expression(source: str, variables: Collection[str]) -> Expression:
    """The compiled expression, from a cache when it was compiled before.

    Raises ExpressionError, with the position, for a syntax error, for a name that is neither in `variables` nor a
    function, and for what breaks a bound: 4 KB, brackets nested 32 deep, 32 `+`, two `map`, no macro inside a macro.
    """
    return _compile(source, frozenset(variables))


@lru_cache(maxsize=8192)
def _compile(source: str, variables: frozenset[str]) -> Expression:
    if not source.strip():
        raise ExpressionError("an expression is missing")
    if len(source.encode(errors="replace")) > MAX_SOURCE_BYTES:
        raise ExpressionError(
            f"an expression is at most {MAX_SOURCE_BYTES} bytes long, this one {len(source)} characters"
        )
    if source.lstrip().startswith("${{"):
        raise ExpressionError("write the expression alone here, without ${{ }}")
    try:
        tokens = syntax.tokenize(source)
    except syntax.UnreadableText as error:
        raise _error_at(source, error.offset, str(error)) from error
    _check_depth(source, tokens)
    program = _parse(source)
    complaints = sorted(_complaints(tokens, variables))
    if complaints:
        raise _error_at(source, *complaints[0])
    return Expression(source, program, tokens)


def _check_depth(source: str, tokens: Sequence[syntax.Token]) -> None:
    # Before parsing: what is nested too deep would exhaust the parser's stack.
    for token in tokens:
        if token.depth >= MAX_DEPTH and token.text in "([{":
            raise _error_at(source, token.start, f"brackets are nested more than {MAX_DEPTH} deep")


def _parse(source: str) -> cel.Program:
    try:
        return cel.compile(source)
    except ValueError as error:
        raise _syntax_error(str(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ExpressionError(f"the expression cannot be read: {error}") from error


def _part(tokens: Sequence[syntax.Token]) -> Expression:
    """A part of an expression that was checked as a whole."""
    source = syntax.text_of(tokens)
    return Expression(source, _parse(source), syntax.tokenize(source))


def _complaints(tokens: Sequence[syntax.Token], variables: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Every reason not to accept a well-formed expression, with its offset."""
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.text == "." and (before is None or not before.ends_operand):
            yield token.start, "a name must stand before the dot"
        if token.text == "{" and before is not None and before.kind == "name":
            yield before.start, f"{before.text}{{…}} builds a message, and there are none; a map is written {{…}}"
    for name, _ in syntax.variables(tokens):
        if name.text not in variables:
            yield name.offset, _unknown("variable", name.text, variables)
    loops = syntax.loops(tokens)
    for function in syntax.functions(tokens):
        if function.text not in _KNOWN_FUNCTIONS:
            yield function.offset, _unknown("function", function.text, _KNOWN_FUNCTIONS)
        if function.text in syntax.MACROS and all(tokens[loop.first].start != function.offset for loop in loops):
            yield function.offset, f"{function.text} is written list.{function.text}(x, …) with an expression of x"
    for loop in loops:
        if loop.variable.text in variables:
            yield loop.variable.offset, f"the variable of {loop.macro} hides {loop.variable.text}; give it another name"
        if any(outer.first < loop.first < outer.last for outer in loops):
            yield tokens[loop.first].start, f"{loop.macro} stands inside another macro, which can take too long"
    maps = [loop for loop in loops if loop.macro == "map"]
    if len(maps) > MAX_MAPS:
        yield tokens[maps[MAX_MAPS].first].start, f"map is used {len(maps)} times; at most {MAX_MAPS} are allowed"
    additions = [token for token in tokens if token.text == "+"]
    if len(additions) > MAX_ADDITIONS:
        yield additions[MAX_ADDITIONS].start, f"+ is used {len(additions)} times; at most {MAX_ADDITIONS} are allowed"


def _unknown(kind: str, name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f', did you mean "{close[0]}"?' if close else ""
    return f'unknown {kind} "{name}"{hint or ";"} known: {", ".join(sorted(known)) or "none"}'


def _error_at(source: str, offset: int, message: str) -> ExpressionError:
    return ExpressionError(message).inside(source[:offset], "")


def _syntax_error(report: str) -> ExpressionError:
    """The first error of `cel`'s report: `ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {…}`."""
    _, _, place = report.partition("ERROR: <input>:")
    line, column, message = [*place.split("\n")[0].split(":", 2), "", ""][:3]
    message = message.strip().removeprefix("Syntax error: ").partition(" expecting ")[0]
    for wordy in ("mismatched input", "extraneous input", "no viable alternative at input"):
        message = message.replace(wordy, "unexpected")
    if not (line.isdecimal() and column.isdecimal()):
        return ExpressionError("the expression cannot be read")
    return ExpressionError(message.replace("unexpected '<EOF>'", "unexpected end"), int(line), int(column))


# --- types that do not fit -------------------------------------------------------------------------------------------

_VERBS = {"+": "add", "-": "combine", "*": "multiply", "/": "divide", "%": "divide", "in": "look for"}
_WITH = {"+": "and", "-": "and", "/": "by", "%": "by", "in": "in"}
_TYPES = {bool: "bool", int: "int", float: "double", str: "string", bytes: "bytes", list: "list", dict: "map"} | {
    type(None): "null",
    datetime: "timestamp",
    timedelta: "duration",
}


def _misfit(tokens: Sequence[syntax.Token], context: Context) -> str | None:
    """Which operation in the expression has operands that do not fit, e.g. `cannot compare string with int in …`."""
    operation = syntax.operation(tokens)
    if operation is None:
        return _no_field(syntax.path_of(tokens), context)
    left, operator, right = operation
    values = [_part(side)._value(context) for side in (left, right) if side]
    for value in values:
        if isinstance(value, EvaluationError):
            return value.reason if isinstance(value.__cause__, TypeError) else None
    text = _shortened(syntax.text_of(tokens), _LONGEST_SHOWN)
    types = [_type_name(value) for value in values]
    if operator in ("&&", "||", "!"):
        return f"{operator} takes only true or false, not {' and '.join(types)}, in {text}"
    if len(types) < 2:
        return f"cannot negate {types[0]} in {text}"
    if types[0] == types[1]:  # int and uint, which are one type here
        return None
    hint = "; convert one of them, e.g. with double(…)" if set(types) == {"int", "double"} else ""
    return (
        f"cannot {_VERBS.get(operator, 'compare')} {types[0]} {_WITH.get(operator, 'with')} {types[1]} in {text}{hint}"
    )


def _no_field(path: syntax.Path | None, context: Context) -> str | None:
    """Where a path leads through something that has no fields."""
    if path is None:
        return None
    for length in range(1, len(path.parts)):
        before = syntax.Path(path.parts[:length])
        found, value = _field(context.variables, before)
        if found and not isinstance(value, dict):
            return f"{before} is {_type_name(value)} and has no field {path.parts[length]}"
    return None


def _type_name(value: Any) -> str:
    return _TYPES.get(type(value), type(value).__name__)


def _field(variables: dict[str, Json], path: syntax.Path) -> tuple[bool, Json]:
    value: Json = variables
    for part in path.parts:
        if not isinstance(value, dict) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


# --- functions that CEL's core has not -------------------------------------------------------------------------------


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    if len(text) + (text.count(old) if old else len(text) + 1) * len(new) > MAX_TEXT:
        raise ValueError(f"the result is longer than {MAX_TEXT} characters")
    return stdlib.replace(text, old, new, limit)


def _join(items: list[str], separator: str = "") -> str:
    if sum(map(len, items)) + len(items) * len(separator) > MAX_TEXT:
        raise ValueError(f"the result is longer than {MAX_TEXT} characters")
    return stdlib.join(items, separator)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "charAt": stdlib.char_at,
    "indexOf": stdlib.index_of,
    "join": _join,
    "lowerAscii": stdlib.lower_ascii,
    "replace": _replace,
    "split": stdlib.split,
    "substring": stdlib.substring,
    "trim": stdlib.trim,
    "upperAscii": stdlib.upper_ascii,
}
_KNOWN_FUNCTIONS = _NATIVE_FUNCTIONS | _FUNCTIONS.keys()


# --- JSON ------------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> Json:
    """The value as JSON that CEL can hold; new containers, never the caller's.

    Times become RFC 3339 text, durations seconds (`90s`), UUIDs text, bytes base64; decimals and integers beyond 64 bit
    become doubles. Raises EvaluationError for anything else, for NaN and for infinity.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 63 else _double(value)
    if kind is float:
        return _double(value)
    if kind is dict:
        return {key if type(key) is str else _key(key): to_json(item) for key, item in value.items()}
    if kind is list:
        return [to_json(item) for item in value]
    return _converted(value)


def _converted(value: Any) -> Json:
    match value:
        case Enum():
            return to_json(value.value)
        case str():
            return str(value)
        case Mapping():
            return to_json(dict(value))
        case tuple() | list() | set() | frozenset():
            return to_json(list(value))
        case datetime():
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return f"{value.total_seconds():f}".rstrip("0").rstrip(".") + "s"  # as JSON in Protocol Buffers has it
        case Decimal() | int() | float():
            return to_json(int(value)) if isinstance(value, int) else _double(value)
        case UUID():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case cel.OptionalValue():
            return to_json(value.value()) if value.has_value() else None
    raise EvaluationError(f"a value of type {type(value).__name__} cannot be written as JSON")


def _double(value: int | float | Decimal) -> float:
    try:
        number = float(value)
    except OverflowError as error:
        raise EvaluationError("a number is larger than a double can hold") from error
    if not math.isfinite(number):
        raise EvaluationError(f"{number} cannot be written as JSON")
    return number


def _key(key: Any) -> str:
    plain = to_json(key)
    return plain if isinstance(plain, str) else orjson.dumps(plain).decode()


# --- ${{ … }} --------------------------------------------------------------------------------------------------------


class _Embedded(NamedTuple):
    """An expression in a string, and where the string is in its tree."""

    expression: Expression
    path: str

    def render(self, context: Context) -> Json:
        try:
            return self.expression.evaluate(context)
        except EvaluationError as error:
            raise EvaluationError(error.reason, self.path) from error


_Render: TypeAlias = Callable[[Context], Json]


@dataclass(frozen=True)
class Values:
    """A JSON tree whose strings may hold `${{ CEL }}`. Made by `compile_values`."""

    tree: Json
    expressions: tuple[Expression, ...]
    _render: _Render | None

    @property
    def constant(self) -> bool:
        """Whether it holds no expression."""
        return self._render is None

    def paths(self) -> set[str]:
        """The fields its expressions read; see Expression.paths."""
        return {path for expression in self.expressions for path in expression.paths}

    def render(self, context: Context) -> Json:
        """The tree with its expressions replaced by their values; parts without any are the tree's own, not copies.

        A string that is one expression becomes its value, of any type. In other strings text is inserted as it is,
        null as nothing, and everything else as JSON. Raises EvaluationError, whose `path` leads to the string.
        """
        return self.tree if self._render is None else self._render(context)


def compile_values(tree: Json, variables: Collection[str]) -> Values:
    """The compiled tree. Raises ExpressionError, whose `path` leads to the string: `values.amount`, `to[0]`."""
    found: list[Expression] = []
    render = _compile_tree(tree, frozenset(variables), "", found)
    return Values(tree, tuple(found), render)


def is_dynamic(value: Json) -> bool:
    """Whether any string in the JSON value holds an expression."""
    if isinstance(value, str):
        return "${{" in value
    if isinstance(value, dict):
        return any(map(is_dynamic, value.values()))
    return isinstance(value, list) and any(map(is_dynamic, value))


def _compile_tree(tree: Json, variables: frozenset[str], path: str, found: list[Expression]) -> _Render | None:
    """What renders the tree; None where it is constant."""
    if isinstance(tree, str):
        return _compile_text(tree, variables, path, found)
    if isinstance(tree, dict):
        for key in tree:
            if is_dynamic(key):
                raise ExpressionError(f"the key {key} holds an expression; only values can", path=path)
        fields = {
            key: _compile_tree(item, variables, f"{path}.{key}" if path else str(key), found)
            for key, item in tree.items()
        }
        if not any(fields.values()):
            return None
        return lambda context: {key: render(context) if render else tree[key] for key, render in fields.items()}
    if isinstance(tree, list):
        items = [_compile_tree(item, variables, f"{path}[{index}]", found) for index, item in enumerate(tree)]
        if not any(items):
            return None
        return lambda context: [render(context) if render else item for render, item in zip(items, tree, strict=True)]
    return None


def _compile_text(text: str, variables: frozenset[str], path: str, found: list[Expression]) -> _Render | None:
    parts = list(_split(text, variables, path))
    embedded = [part for part in parts if isinstance(part, _Embedded)]
    found += [part.expression for part in embedded]
    if not embedded:
        return None
    if len(parts) == 1:
        return embedded[0].render
    return lambda context: "".join(part if isinstance(part, str) else _inserted(part.render(context)) for part in parts)


def _split(text: str, variables: frozenset[str], path: str) -> Iterator[str | _Embedded]:
    """The text's literal parts, none of them empty, and its expressions."""
    position = 0
    while (opening := text.find("${{", position)) >= 0:
        start = opening + 3
        try:
            end = syntax.end_of_embedded(text, start)
        except syntax.UnreadableText as error:
            raise ExpressionError(str(error)).inside(text[: error.offset], path) from error
        if end < 0:
            raise ExpressionError("this ${{ is not closed by }}").inside(text[:opening], path)
        if opening > position:
            yield text[position:opening]
        try:
            yield _Embedded(_compile(text[start:end], variables), path)
        except ExpressionError as error:
            raise error.inside(text[:start], path) from error
        position = end + 2
    if position < len(text):
        yield text[position:]


def _inserted(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
