"""What an entry of the audit log says, for people: who, when, and field by field what it was and what it became."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from auditlog.models import LogEntry as Kept
from django.contrib.admin.models import LogEntry as Noted
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import Q
from django.forms.models import _get_foreign_key  # what inlines ask

from project.secrets import MASK

Json: TypeAlias = Any

SHOWN: Final = 100
"""Entries on the page of a row's history; the audit log has them all."""


@dataclass(frozen=True)
class Difference:
    """One field. `lines` is a diff where there is too much to stand side by side."""

    field: str
    before: str = ""
    after: str = ""
    lines: tuple[str, ...] = ()
    secret: bool = False


@dataclass(frozen=True)
class Change:
    """Something that somebody did to a row; `what` in words, and the differences where it changed the configuration."""

    at: datetime
    who: str
    what: str
    differences: Sequence[Difference] = ()


def history_of(row: models.Model, parts: Sequence[type[models.Model]] = ()) -> list[Change]:
    """What was done to the row and to its parts (rows of these models that point to it), the newest first."""
    mine = Q(content_type=ContentType.objects.get_for_model(row), object_pk=str(row.pk))
    wanted = mine
    for part in parts:
        theirs = part._default_manager.filter(**{_get_foreign_key(type(row), part).name: row})
        keys = [str(key) for key in theirs.values_list("pk", flat=True)]
        wanted |= Q(content_type=ContentType.objects.get_for_model(part), object_pk__in=keys)
    kept = list(Kept.objects.filter(wanted).select_related("actor", "content_type")[:SHOWN])
    versions = {entry.pk: before for entry, before in _with_versions_before(kept)}
    # What the admin notes about its forms, as JSON, the audit log knows better.
    noted = Noted.objects.filter(content_type=ContentType.objects.get_for_model(row), object_id=str(row.pk))
    noted = noted.exclude(change_message__startswith="[").select_related("user")[:SHOWN]
    found = [
        *(Change(it.timestamp, who(it), what(it), differences(it, versions.get(it.pk))) for it in kept),
        *(Change(note.action_time, note.user.get_username(), note.get_change_message()) for note in noted),
    ]
    return sorted(found, key=lambda change: change.at, reverse=True)[:SHOWN]


def who(entry: Kept) -> str:
    """The person, or the program, whose change it was."""
    if entry.actor is not None:
        return str(entry.actor.get_username())
    return str((entry.additional_data or {}).get("by", "a program"))


def what(entry: Kept) -> str:
    """The change in words: "changed channel ops-chat"."""
    return f"{VERBS[entry.action]} {entry.content_type.name} {entry.object_repr}"


VERBS: Final = {Kept.Action.CREATE: "added", Kept.Action.UPDATE: "changed", Kept.Action.DELETE: "deleted"}


def differences(entry: Kept, before: Kept | None = None) -> list[Difference]:
    """Field by field; fields that stayed empty are left out, and those that stayed as they were `before`."""
    model = entry.content_type.model_class()
    earlier = {name: change[1] for name, change in (before.changes or {}).items()} if before else {}
    found = []
    for name, change in sorted((entry.changes or {}).items()):
        known = name in earlier and isinstance(change, list)
        found.append(_difference(_label(model, name), [earlier[name], change[1]] if known else change))
    return [it for it in found if it.lines or it.before != it.after or it.secret]


def version_before(entry: Kept) -> Kept | None:
    """The entry of the version before, if it tells of a new version (of a schema, of a workflow)."""
    model = entry.content_type.model_class()
    if entry.action != Kept.Action.CREATE or model is None or not (whole := _whole(model)):
        return None
    added = Kept.objects.filter(content_type=entry.content_type, action=Kept.Action.CREATE, pk__lt=entry.pk)
    return added.filter(**{f"changes__{whole}": entry.changes.get(whole)}).order_by("-pk").first()


def _with_versions_before(entries: Sequence[Kept]) -> Iterator[tuple[Kept, Kept]]:
    """The same for all the entries of one row and its parts, the newest first."""
    newer: dict[int, Kept] = {}
    for entry in entries:
        model = entry.content_type.model_class()
        if entry.action == Kept.Action.CREATE and model is not None and _whole(model):
            if entry.content_type_id in newer:
                yield newer[entry.content_type_id], entry
            newer[entry.content_type_id] = entry


def _whole(model: type[models.Model]) -> str:
    """The field that says of what a row is a version; empty: rows of the model are none."""
    numbered = {"version", "number"}.intersection(field.name for field in model._meta.concrete_fields)
    owners = [field.name for field in model._meta.concrete_fields if field.is_relation]
    return owners[0] if numbered and len(owners) == 1 else ""


def _difference(field: str, change: Json) -> Difference:
    if isinstance(change, dict):  # a relation: {"type": "m2m", "operation": "add", "objects": [names]}
        names = ", ".join(change["objects"])
        return Difference(field, after=names) if change["operation"] == "add" else Difference(field, before=names)
    before, after = map(_text, change)
    if MASK in (before, after):
        return Difference(field, before, after, secret=True)
    if "\n" in before or "\n" in after:
        diff = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))
        return Difference(field, lines=tuple(diff[2:]))  # without the names of files
    return Difference(field, before, after)


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, "", "None", [], {}):
        return ""
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict) else None)
    )


def _label(model: type[models.Model] | None, name: str) -> str:
    try:
        return str(model._meta.get_field(name).verbose_name) if model else name  # type: ignore[union-attr]  # of a column
    except FieldDoesNotExist:  # it was there when the change was made
        return name
