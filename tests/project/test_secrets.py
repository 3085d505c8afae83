"""Secrets are unreadable in the database, survive rotation, and are shown masked."""

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.db import connection
from pytest_django import Settings

from project.secrets import (
    EncryptedJSONField,
    EncryptedTextField,
    Undecryptable,
    UnknownVariable,
    decrypt,
    encrypt,
    mask,
    resolve_environment,
    rotate,
    unmask,
)

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (EncryptedTextField(), "whsec_ä"),
        (EncryptedTextField(), ""),
        (EncryptedTextField(null=True), None),
        (EncryptedJSONField(), {"url": "https://example.com/ä", "retries": [1, 2.5, None]}),
        (EncryptedJSONField(), "text"),
        (EncryptedJSONField(null=True), None),
    ],
)
def test_what_a_field_stores_is_a_token_and_comes_back(field: EncryptedTextField, value: Any) -> None:
    stored = field.get_db_prep_save(value, connection)
    assert stored is None if value is None else stored.startswith("gAAAA")
    assert field.from_db_value(stored, None, connection) == value


def test_an_encrypted_field_cannot_be_searched() -> None:
    field = EncryptedTextField(name="secret")
    with pytest.raises(FieldError, match="secret is encrypted and cannot be compared"):
        field.get_lookup("exact")
    assert field.get_lookup("isnull") is not None


def test_a_json_field_refuses_what_is_not_json() -> None:
    with pytest.raises(ValidationError, match="not a JSON value"):
        EncryptedJSONField().clean({"when": object()}, None)


def test_a_secret_is_readable_after_a_key_was_added_and_rotates_to_the_new_one(settings: Settings) -> None:
    settings.SECRET_KEYS = [OLD]
    token = encrypt("secret")
    settings.SECRET_KEYS = [NEW, OLD]
    assert decrypt(token) == "secret"
    rotated = rotate(token)
    settings.SECRET_KEYS = [NEW]
    assert decrypt(rotated) == "secret"
    for read in (decrypt, rotate):
        with pytest.raises(Undecryptable, match="not encrypted with any key of SECRET_KEYS"):
            read(token)


@pytest.mark.parametrize("keys", [[], ["short"]])
def test_wrong_secret_keys_are_named(settings: Settings, keys: list[str]) -> None:
    settings.SECRET_KEYS = keys
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEYS must list at least one Fernet key"):
        encrypt("secret")


def test_variables_are_taken_from_the_environment_and_expressions_are_left_alone(settings: Settings) -> None:
    settings.ENVIRONMENT = {"HOST": "example.com", "TOKEN": "t$1"}
    value = {"url": "https://${HOST}/${TOKEN}", "list": ["${HOST}", 5, None], "e": "${{ HOST }} ${{HOST}} $HOST {HOST}"}
    assert resolve_environment(value) == {
        "url": "https://example.com/t$1",
        "list": ["example.com", 5, None],
        "e": "${{ HOST }} ${{HOST}} $HOST {HOST}",
    }


def test_a_missing_variable_is_named(settings: Settings) -> None:
    settings.ENVIRONMENT = {}
    with pytest.raises(UnknownVariable, match="no variable CHAT_URL in the environment"):
        resolve_environment({"url": "${CHAT_URL}"})


def test_a_masked_value_that_comes_back_means_what_is_stored() -> None:
    stored = {"url": "https://example.com/hooks/abcd1234", "headers": ["one", "two"], "token": "short", "note": None}
    shown = mask(stored)
    assert shown == {"url": "••••1234", "headers": ["••••", "••••"], "token": "••••", "note": None}
    assert unmask(shown, stored) == stored
    assert unmask({**shown, "token": "new"}, stored) == {**stored, "token": "new"}
    assert unmask({"token": "••••"}, stored) == {"token": "short"}
