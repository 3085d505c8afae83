"""Secrets at rest: model fields that are encrypted in the database, values taken from the environment, masks."""

import json
import re
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django import forms
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.lookups import Lookup

MASK = "••••"

# `${{ … }}` is an expression and is stepped over; only `${NAME}` names a variable.
_REFERENCE = re.compile(r"\$\{\{.*?\}\}|\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.DOTALL)


class Undecryptable(Exception):
    """A stored secret was encrypted with a key that is not in SECRET_KEYS. Trying again does not help."""


class UnknownVariable(ValueError):
    """A `${NAME}` names a variable that the environment does not have."""


def encrypt(text: str) -> str:
    """The text as a Fernet token, encrypted with the first of SECRET_KEYS."""
    return _cipher().encrypt(text.encode()).decode("ascii")


def decrypt(token: str) -> str:
    """The text of a token that any of SECRET_KEYS made. Raises Undecryptable."""
    try:
        return _cipher().decrypt(token).decode()
    except InvalidToken as error:
        raise Undecryptable(_UNDECRYPTABLE) from error


def rotate(token: str) -> str:
    """The same secret, encrypted with the first of SECRET_KEYS. Raises Undecryptable."""
    try:
        return _cipher().rotate(token).decode("ascii")
    except InvalidToken as error:
        raise Undecryptable(_UNDECRYPTABLE) from error


_UNDECRYPTABLE = (
    "a stored secret was not encrypted with any key of SECRET_KEYS; "
    "append the key it was encrypted with to SECRET_KEYS, or enter the secret anew"
)


def _cipher() -> MultiFernet:
    return _cipher_of(tuple(settings.SECRET_KEYS))


@lru_cache(maxsize=4)
def _cipher_of(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key.strip()) for key in keys])
    except ValueError as error:
        raise ImproperlyConfigured(
            "SECRET_KEYS must list at least one Fernet key (32 bytes in url-safe base64); make one with "
            '`python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"`'
        ) from error


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]  # not generic at run time
    """A text that is stored as a Fernet token. The model sees the text; a query can only ask whether it is NULL."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return None if value is None else encrypt(value)

    def from_db_value(self, value: str | None, expression: object, connection: BaseDatabaseWrapper) -> Any:
        return None if value is None else decrypt(value)

    def get_lookup(self, lookup_name: str) -> "type[Lookup[Any]] | None":
        # Two encryptions of one text differ, so any comparison would silently find nothing.
        if lookup_name != "isnull":
            raise FieldError(f"{self.name} is encrypted and cannot be compared; only {self.name}__isnull works")
        return super().get_lookup(lookup_name)


class EncryptedJSONField(EncryptedTextField):
    """A JSON value that is stored as a Fernet token; None is stored as NULL."""

    empty_strings_allowed = False
    _pyi_private_set_type: Any  # what django-stubs takes for the type of the model's attribute
    _pyi_private_get_type: Any

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else super().get_prep_value(json.dumps(value, ensure_ascii=False))

    def from_db_value(self, value: str | None, expression: object, connection: BaseDatabaseWrapper) -> Any:
        text = super().from_db_value(value, expression, connection)
        return None if text is None else json.loads(text)

    def to_python(self, value: Any) -> Any:
        return value

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        super().validate(value, model_instance)
        try:
            json.dumps(value)
        except TypeError as error:
            raise ValidationError(f"not a JSON value: {error}", code="invalid") from error

    def value_to_string(self, obj: models.Model) -> Any:
        return self.value_from_object(obj)

    def formfield(self, **kwargs: Any) -> forms.Field | None:
        return models.Field.formfield(self, **{"form_class": forms.JSONField, **kwargs})


def resolve_environment(value: Any) -> Any:
    """A copy of the JSON value with every `${NAME}` in its strings replaced from settings.ENVIRONMENT.

    `${{ … }}` stays as it is, and so do keys. Raises UnknownVariable, which names the variable.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(_lookup, value)
    if isinstance(value, dict):
        return {key: resolve_environment(item) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_environment(item) for item in value]
    return value


def resolve_written(value: Any, written: Any) -> Any:
    """The JSON value with those `${NAME}` replaced that somebody wrote at the same place of `written`.

    For what was made from `written` by filling in data: that the data says `${NAME}`, too, must not reveal anything.
    Raises UnknownVariable.
    """
    if isinstance(value, dict) and isinstance(written, dict):
        return {key: resolve_written(item, written.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(written, list) and len(value) == len(written):
        return [resolve_written(item, its) for item, its in zip(value, written, strict=True)]
    if isinstance(value, str) and isinstance(written, str) and (names := references(written)):
        return _REFERENCE.sub(lambda found: _lookup(found) if found[1] in names else found[0], value)
    return value


def references(value: Any) -> list[str]:
    """The variables that the JSON value's strings name, each once.

    >>> references({"url": "https://${HOST}/${{ path }}", "more": ["${TOKEN}", "${HOST}"]})
    ['HOST', 'TOKEN']
    """
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return list(dict.fromkeys(name for part in parts for name in references(part)))
    found = _REFERENCE.finditer(value) if isinstance(value, str) else ()
    return list(dict.fromkeys(reference[1] for reference in found if reference[1]))


def _lookup(reference: re.Match[str]) -> str:
    name = reference[1]
    if name is None:
        return reference[0]
    if name not in settings.ENVIRONMENT:
        raise UnknownVariable(f"${{{name}}} is not set: no variable {name} in the environment")
    return str(settings.ENVIRONMENT[name])


def mask(value: Any) -> Any:
    """The JSON value as it may be shown: keys stay, values are hidden; a long text keeps its last four letters.

    >>> mask({"url": "https://example.com/hooks/abcd1234", "token": "short", "retries": 3, "note": ""})
    {'url': '••••1234', 'token': '••••', 'retries': '••••', 'note': ''}
    """
    if isinstance(value, dict):
        return {key: mask(item) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item) for item in value]
    if value is None or value == "":
        return value
    return MASK + value[-4:] if isinstance(value, str) and len(value) >= 16 else MASK


def unmask(submitted: Any, stored: Any) -> Any:
    """What a form or API call that was shown `mask(stored)` means: a value that is still its mask keeps what is stored.

    >>> unmask({"token": "••••", "url": "new"}, {"token": "short", "url": "old"})
    {'token': 'short', 'url': 'new'}
    """
    if isinstance(submitted, dict) and isinstance(stored, dict):
        return {key: unmask(item, stored.get(key)) for key, item in submitted.items()}
    if isinstance(submitted, list) and isinstance(stored, list) and len(submitted) == len(stored):
        return [unmask(item, old) for item, old in zip(submitted, stored, strict=True)]
    return stored if stored is not None and submitted == mask(stored) else submitted
