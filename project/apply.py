"""From YAML documents to rows: all of them or none, with everything that is wrong told at once."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from pathlib import Path as FilePath
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.db.models import ProtectedError

from project import documents
from project.documents import Document, DocumentError
from project.fields import shown
from project.kinds import Kind, Refused, Written, in_order, kinds, masked
from project.names import unknown

SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, and where."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class Rejected(Exception):
    """Nothing was applied, for these reasons."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class Outcome(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    DISABLED = "disabled"


@dataclass(frozen=True)
class Change:
    """What became of a row. `difference` is a diff of its document, secrets masked; `reason` says why it was kept."""

    kind: str
    name: str
    outcome: Outcome
    difference: str = ""
    reason: str = ""


def read_files(paths: Sequence[FilePath]) -> list[Written]:
    """The documents in these files, and in the *.yaml and *.yml files below these folders. Raises Rejected."""
    problems: list[Problem] = []
    found: list[Written] = []
    for path in paths:
        for file in _files(path, problems):
            try:
                text = file.read_text(encoding="utf-8")
                found += [_written(str(file), text, document) for document in documents.read(text)]
            except DocumentError as error:
                problems += [Problem(str(file), line, message) for line, message in error.problems]
            except (OSError, UnicodeDecodeError) as error:
                problems.append(Problem(str(file), 0, f"cannot be read: {error}"))
    if problems:
        raise Rejected(problems)
    return found


def apply(found: Sequence[Written], *, prune: bool = False, dry_run: bool = False) -> list[Change]:
    """Make the configuration what the documents say; returns a change for each document, in the order applied.

    One transaction: all or, with Rejected, nothing. A document that says what is stored touches nothing. With `prune`,
    rows of the kinds that the documents are of, which are in no document, are deleted, or disabled where facts refer to
    them. With `dry_run` everything is tried, and then undone.
    """
    problems, good = _identified(found)
    with transaction.atomic():
        before = {id(written): _Snapshot.of(_kind(written), written.name) for written in good}
        changes = []
        for written in _ordered(good, problems):
            count = len(problems)
            problems += [Problem(written.file, *problem) for problem in _kind(written).problems(written)]
            if len(problems) == count:
                changes += _applied(written, before[id(written)], problems)
            if len(problems) > count:
                _stand_in(written)
        if prune and not problems:
            changes += _pruned(good, problems)
        if problems:
            raise Rejected(problems)
        transaction.set_rollback(dry_run)
    return changes


# --- reading ----------------------------------------------------------------------------------------------------------


def _files(path: FilePath, problems: list[Problem]) -> Iterator[FilePath]:
    if not path.is_dir():
        yield path
        return
    inside = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not inside:
        problems.append(Problem(str(path), 0, f"holds no {' or '.join(f'*{suffix}' for suffix in SUFFIXES)} file"))
    yield from inside


_BOUNDARY: Final = re.compile(r"(---|\.\.\.)(\s|$)")


def _written(file: str, text: str, document: Document) -> Written:
    """The document with its own part of the text: from the line after the `---` before it to the next one."""
    lines = text.split("\n")
    root = document.line(())
    boundaries = [number for number, line in enumerate(lines, start=1) if _BOUNDARY.match(line)]
    first = max((number + 1 for number in boundaries if number < root), default=1)
    last = min((number - 1 for number in boundaries if number > root), default=len(lines))
    return Written(file, document, "\n".join(lines[first - 1 : last]).rstrip() + "\n", first)


def _identified(found: Sequence[Written]) -> tuple[list[Problem], list[Written]]:
    """What is wrong with kinds and names, and the documents that have both."""
    problems, good = [], []
    places: dict[tuple[str, str], Written] = {}
    for written in found:
        data = written.document.data
        field, message = _wrong_head(data)
        if message:
            problems.append(Problem(written.file, written.line((field,)), message))
            continue
        first = places.setdefault((data["kind"], data["name"]), written)
        if first is not written:
            message = f"{data['kind']} {data['name']} stands twice; the first is in {first.file}:{first.line(())}"
            problems.append(Problem(written.file, written.line(()), message))
            continue
        good.append(written)
    return problems, good


def _wrong_head(data: Any) -> tuple[str, str]:
    """What is wrong with a document's kind or name: the field and the message; nothing when both are right."""
    if not isinstance(data, dict) or "kind" not in data:
        return "", f"a document is a map with kind, name and more; the kinds are {', '.join(kinds.names())}"
    if not isinstance(data["kind"], str) or data["kind"] not in kinds:
        return "kind", unknown("kind", str(data["kind"]), kinds.names())
    if "name" not in data:
        return "", "name: this field is required"
    if not isinstance(data["name"], str) or not data["name"]:
        return "name", f"name: should be text, not {shown(data['name'])}"
    return "", ""


def _kind(written: Written) -> type[Kind]:
    return kinds[written.document.data["kind"]]


def _ordered(good: Sequence[Written], problems: list[Problem]) -> Iterator[Written]:
    """Every document after those it may refer to; begins each kind with its `prepare`."""
    by_kind: dict[str, dict[str, Written]] = defaultdict(dict)
    for written in good:
        by_kind[_kind(written).name][written.name] = written
    for kind in in_order(by_kind):
        of_kind = by_kind[kind.name]
        graph = {
            name: [other for other in kind.refers_to(written.data) if other in of_kind and other != name]
            for name, written in of_kind.items()
        }
        try:
            names = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle: list[str] = error.args[1][::-1]
            written = of_kind[circle[0]]
            problems.append(
                Problem(written.file, written.line(()), f"{kind.name}s go in a circle: {' → '.join(circle)}")
            )
            names = list(of_kind)
        kind.prepare([written.data for written in of_kind.values()])
        yield from (of_kind[name] for name in names)


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Snapshot:
    """What a row says, or that there is none."""

    state: Any = None
    text: str = ""

    @classmethod
    def of(cls, kind: type[Kind], name: str) -> _Snapshot:
        row = kind.find(name)
        return cls() if row is None else cls(kind.state(row), kind.text(row, masked))


def _applied(written: Written, before: _Snapshot, problems: list[Problem]) -> list[Change]:
    kind = _kind(written)
    try:
        with transaction.atomic():
            kind.write(kind.find(written.name), written)
    except Refused as error:
        problems += [Problem(written.file, line, message) for line, message in error.problems]
        return []
    after = _Snapshot.of(kind, written.name)
    changed = Outcome.UNCHANGED if after.state == before.state else Outcome.CHANGED
    outcome = Outcome.CREATED if before.state is None else changed
    return [Change(kind.name, written.name, outcome, _difference(before.text, after.text))]


def _stand_in(written: Written) -> None:
    """Let the documents that refer to a refused one be checked too. All is undone in the end."""
    with suppress(DatabaseError), transaction.atomic():
        _kind(written).model._default_manager.get_or_create(name=written.name)


def _pruned(good: Sequence[Written], problems: list[Problem]) -> list[Change]:
    named: dict[str, set[str]] = defaultdict(set)
    for written in good:
        named[_kind(written).name].add(written.name)
    changes = []
    for kind in reversed(in_order(named)):  # what refers goes before what it refers to
        for row in kind.rows().exclude(name__in=named[kind.name]):
            if kind.belongs(row):
                continue
            text = kind.text(row, masked)
            if reason := kind.facts(row):
                if kind.disable(row):
                    changes.append(Change(kind.name, row.name, Outcome.DISABLED, reason=reason))
                continue
            try:
                row.delete()
            except ProtectedError as error:
                users = ", ".join(sorted(f"{user._meta.verbose_name} {user}" for user in error.protected_objects))
                problems.append(Problem(f"{kind.name} {row.name}", 0, f"cannot be deleted, for it is used by: {users}"))
                continue
            changes.append(Change(kind.name, row.name, Outcome.DELETED, _difference(text, "")))
    if any(change.outcome is Outcome.DELETED for change in changes):
        problems += _left_without()
    return changes


def _left_without() -> Iterator[Problem]:
    """What would no longer work because something it refers to was deleted."""
    for kind in in_order():
        for row in kind.rows():
            try:
                kind.check(row)
            except ValidationError as error:
                for message in error.messages:
                    yield Problem(f"{kind.name} {row.name}", 0, f"would be left with: {message}")


def _difference(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    return "\n".join(list(lines)[2:])  # without the names of files
