"""The kinds of configuration documents that `apply` loads and `export` writes: the base of all, and its manual.

A kind is a class in an app's `kinds.py`. Its `Spec` lists the fields of a document, which are fields of the model too:

    class RecipientSpec(Spec):
        addresses: dict[str, str] = {}
        language: str = "en"

    @kinds.register("Recipient")
    class RecipientKind(RowKind):
        model = Recipient
        spec = RecipientSpec
        after = ("Team",)                       # documents of these kinds are applied before

What is wrong with a value stands in the model's `clean()`, so that forms, `apply` and the API refuse the same things in
the same words. A field that a document leaves out gets its default. Where a field is not simply a column (a reference
by name, rows of another table), override `values`, `state` and `relate`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, ClassVar, Final, TypeAlias

from django.core.exceptions import ValidationError
from django.db import models
from pydantic import BaseModel, ConfigDict

from project import documents
from project.documents import Document, Path
from project.faults import place_of
from project.fields import complaints, dotted
from project.names import unknown
from project.registry import Registry
from project.secrets import MASK, references

Json: TypeAlias = Any
Conceal: TypeAlias = Callable[[str, str], str]
"""What is shown instead of a secret: takes its path in the document (`settings.url`) and its value."""


@dataclass(frozen=True)
class Written:
    """A document as somebody wrote it."""

    file: str
    document: Document  # its lines are the file's
    text: str  # the document alone
    first_line: int  # of the text in the file

    @property
    def data(self) -> dict[str, Json]:
        """Its fields, without its kind."""
        return {name: value for name, value in self.document.data.items() if name != "kind"}

    @property
    def name(self) -> str:
        return str(self.document.data["name"])

    def line(self, path: Path) -> int:
        return self.document.line(path)


class Refused(Exception):
    """A document cannot be applied; `problems` are (line in the file, message) pairs."""

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = tuple(problems)


class Kind(ABC):
    """One kind of documents. Never instantiated."""

    name: ClassVar[str]
    model: ClassVar[type[models.Model]]
    after: ClassVar[tuple[str, ...]] = ()
    """The kinds that documents of this kind may refer to."""
    before: ClassVar[tuple[str, ...]] = ()
    """The kinds whose documents may refer to documents of this kind, where they stand below it and cannot know it."""

    @classmethod
    def rows(cls) -> models.QuerySet[Any]:
        return cls.model._default_manager.order_by("name")

    @classmethod
    def find(cls, name: str) -> Any | None:
        return cls.rows().filter(name=name).first()

    @classmethod
    def problems(cls, written: Written) -> list[tuple[int, str]]:
        """What is wrong with the document's form, before any row is looked at: (line, message) pairs."""
        return []

    @classmethod
    def refers_to(cls, data: Mapping[str, Json]) -> Collection[str]:
        """The names of documents of the same kind that have to be applied before this one."""
        return ()

    @classmethod  # noqa: B027  # most have nothing to prepare
    def prepare(cls, all_data: Sequence[Mapping[str, Json]]) -> None:
        """Make way, before any document of the kind is applied, for what may not be there twice at any moment."""

    @classmethod
    @abstractmethod
    def write(cls, row: Any | None, written: Written) -> None:
        """Make the row (None: there is none yet) what the document says; touch nothing when it is. Raises Refused."""

    @classmethod
    @abstractmethod
    def state(cls, row: Any) -> dict[str, Json]:
        """All that documents of this kind can say of the row."""

    @classmethod
    @abstractmethod
    def text(cls, row: Any, conceal: Conceal) -> str:
        """The row as a YAML document that `write` takes."""

    @classmethod
    def check(cls, row: Any) -> None:
        """Look at a stored row again, because something that it may refer to is gone. Raises ValidationError."""
        row.full_clean()

    @classmethod
    def facts(cls, row: Any) -> str:
        """What happened that refers to the row ("runs"), so that it is disabled, not deleted; "": nothing did."""
        return ""

    @classmethod
    def belongs(cls, row: Any) -> bool:
        """Whether another row brought it and needs it, so that it is left alone although it is in no document."""
        return False

    @classmethod
    def disable(cls, row: Any) -> bool:
        """Switch it off and keep it; returns whether it was on."""
        was_on: bool = row.enabled
        if was_on:
            row.enabled = False
            row.save(update_fields=["enabled"])
        return was_on


kinds: Registry[Kind] = Registry("kind", app_module="kinds")


def in_order(names: Collection[str] | None = None) -> list[type[Kind]]:
    """These kinds (None: all) such that each comes after those it may refer to. Raises UnknownName."""
    after = {name: {*kind.after} for name, kind in kinds.items()}
    for name, kind in kinds.items():
        for later in kind.before:
            after[later].add(name)
    order = TopologicalSorter({name: sorted(earlier) for name, earlier in after.items()}).static_order()
    wanted = {kinds[name].name for name in (kinds.names() if names is None else names)}
    return [kinds[name] for name in order if name in wanted]


class Spec(BaseModel):
    """The fields of a document. Unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    description: str = ""


class RowKind(Kind):
    """A kind whose documents are rows of one table, more or less field by field."""

    spec: ClassVar[type[Spec]]
    derived: ClassVar[tuple[str, ...]] = ()
    """Columns that the row's `clean` makes of the others."""

    @classmethod
    def problems(cls, written: Written) -> list[tuple[int, str]]:
        return [
            (written.line(path), f"{dotted(path)}: {message}") for path, message in complaints(cls.spec, written.data)
        ]

    @classmethod
    def values(cls, data: Mapping[str, Json], wrong: dict[str, Any]) -> dict[str, Any]:
        """The row's columns as the document (with its defaults) says them.

        What is wrong goes into `wrong`, under the document's field, and the column is left out.
        """
        columns = {field.name for field in cls.model._meta.concrete_fields}
        return {name: value for name, value in data.items() if name in columns}

    @classmethod
    def relate(cls, row: Any, data: Mapping[str, Json]) -> None:
        """Write what the document says of other tables; the row is stored. May raise ValidationError."""

    @classmethod
    def in_document(cls, wrong: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the row found wrong, under the document's fields, where those are not the columns."""
        return wrong

    @classmethod
    def write(cls, row: Any | None, written: Written) -> None:
        data = cls.spec.model_validate(written.data).model_dump(by_alias=True)
        wrong: dict[str, Any] = {}
        values = cls.values(data, wrong)
        fresh = row is None
        row = cls.model() if row is None else row
        changed = [name for name, value in values.items() if getattr(row, name, None) != value]
        for name in changed:
            setattr(row, name, values[name])
        if not fresh:  # first, because the row may have to fit to it
            _collect(wrong, lambda: cls.relate(row, data))
        _collect(wrong, lambda: row.full_clean(exclude=set(wrong)))
        if not wrong and fresh:
            row.save()
            _collect(wrong, lambda: cls.relate(row, data))
            _collect(wrong, row.clean)
        elif not wrong and changed:
            row.save(update_fields=[*changed, *cls.derived])  # only these: others may belong to the sender
        if wrong:
            raise refusal(written, ValidationError(dict(cls.in_document(wrong))))

    @classmethod
    def state(cls, row: Any) -> dict[str, Json]:
        return {name: getattr(row, name, None) for name in cls._defaults()}  # None: not in the row itself

    @classmethod
    def conceal(cls, state: Mapping[str, Json], conceal: Conceal) -> dict[str, Json]:
        """The state as it may be shown."""
        return dict(state)

    @classmethod
    def text(cls, row: Any, conceal: Conceal) -> str:
        told = cls.conceal(cls.state(row), conceal)
        data = {name: told[name] for name, default in cls._defaults().items() if told[name] != default}
        return documents.write({"kind": cls.name, **data})

    @classmethod
    def _defaults(cls) -> dict[str, Json]:
        """The fields of a document, and what they are when left out (`...`: they cannot be)."""
        return {
            field.alias or name: ... if field.is_required() else field.get_default(call_default_factory=True)
            for name, field in cls.spec.model_fields.items()
        }


def _collect(wrong: dict[str, Any], check: Callable[[], None]) -> None:
    try:
        check()
    except ValidationError as error:
        wrong |= error.update_error_dict({})


def refusal(written: Written, error: ValidationError) -> Refused:
    """What a model found wrong, at the document's lines."""
    problems = []
    for name, inner in _errors(error):
        where = place_of(inner)
        path = (name, *(where.split(".") if where else ())) if name else ()
        for message in inner.messages:
            problems.append((written.line(path), f"{name}{'.' if where else ': '}{message}" if name else message))
    return Refused(problems)


def _errors(error: ValidationError) -> Iterator[tuple[str, ValidationError]]:
    if hasattr(error, "error_dict"):
        for name, inner in error.error_dict.items():
            yield from ((name if name != "__all__" else "", each) for each in inner)
    else:
        yield from (("", each) for each in error.error_list)


def one_of(model: type[models.Model], name: str, word: str) -> Any:
    """The row of this name. Raises ValidationError naming the known ones."""
    row = model._default_manager.filter(name=name).first()
    if row is None:
        known = model._default_manager.order_by("name").values_list("name", flat=True)
        raise ValidationError(unknown(word, name, list(known)))
    return row


# --- secrets ----------------------------------------------------------------------------------------------------------


def in_clear(path: str, value: str) -> str:
    return value


def masked(path: str, value: str) -> str:
    """For eyes: references stay, real secrets do not."""
    return value if references(value) or not value else MASK


def placeholders(kind: str, name: str) -> Conceal:
    """For files: a real secret becomes the reference to a variable that whoever applies the file has to set."""

    def conceal(path: str, value: str) -> str:
        if references(value) or not value:
            return value
        return "${" + _NOT_A_LETTER.sub("_", f"{kind}_{name}_{path}").upper() + "}"

    return conceal


_NOT_A_LETTER: Final = re.compile(r"[^A-Za-z0-9]+")
