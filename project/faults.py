"""What is wrong and where: in what was sent, and inside a field of many parts (settings, languages)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.core.exceptions import ValidationError


@dataclass(frozen=True)
class Fault:
    """One thing wrong with what was sent, and where: a dotted path, in a batch beginning with the index."""

    path: str
    message: str


def fault(path: str, message: str, *, line: int | None = None) -> ValidationError:
    """An error at `path` (`de.subject`) inside a form's field; the code editor marks `line` of its text.

    Forms show `path: message`; `place_of` gives the path back.
    """
    # Through parameters, because a message may hold a percent sign.
    form = "%(path)s: %(message)s" if path else "%(message)s"
    return ValidationError(form, params={"path": path, "message": message, **({"line": line} if line else {})})


def by_field(problems: Iterable[tuple[str, str]]) -> dict[str, list[ValidationError]]:
    """(path, message) pairs as ValidationError takes them: `settings.url` is `url` in the field `settings`."""
    found: dict[str, list[ValidationError]] = {}
    for path, message in problems:
        field, _, inside = path.partition(".")
        found.setdefault(field, []).append(fault(inside, message))
    return found


def place_of(error: ValidationError) -> str:
    """Where inside its field the error is; nothing when it is about the whole field."""
    return str((getattr(error, "params", None) or {}).get("path", ""))
