"""What is wrong inside a field of many parts (settings, languages), said with its place."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.exceptions import ValidationError


def fault(path: str, message: str, *, line: int | None = None) -> ValidationError:
    """An error at `path` (`de.subject`) inside a field; `line` counts inside its text, and the code editor marks it.

    Forms show `path: message`; `place_of` gives the path back.
    """
    # Through parameters, because a message may hold a percent sign.
    form = "%(path)s: %(message)s" if path else "%(message)s"
    return ValidationError(form, params={"path": path, "message": message, **({"line": line} if line else {})})


def by_field(problems: Iterable[tuple[str, str]]) -> dict[str, list[ValidationError]]:
    """(path, message) pairs as ValidationError takes them: `languages.de.text` is `de.text` in the field `languages`."""
    found: dict[str, list[ValidationError]] = {}
    for path, message in problems:
        field, _, inside = path.partition(".")
        found.setdefault(field, []).append(fault(inside, message))
    return found


def place_of(error: ValidationError) -> tuple[str, int | None]:
    """Where inside its field the error is: the path, or nothing when it is about the whole field; and the line, if known."""
    params = getattr(error, "params", None) or {}
    return str(params.get("path", "")), params.get("line")
