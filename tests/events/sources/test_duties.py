"""What every adapter must do. A new one gets its line in VENDORS, and the whole suite."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from events.models import Event, EventSchema, EventType, Original, Source
from events.schemas import Validator
from events.sources import adapters
from events.sources.base import Adapter
from project.settings_form import form_fields
from tests.events.sources.conftest import Caller, refused, stored
from tests.events.sources.vendors import VENDORS, adapter_of

pytestmark = pytest.mark.django_db

SECRET = sorted(case for case in VENDORS if adapters[adapter_of(case)].secret)
TIMED = sorted(case for case, vendor in VENDORS.items() if vendor.timed)

each = pytest.mark.parametrize("caller", sorted(VENDORS), indirect=True)
each_secret = pytest.mark.parametrize("caller", SECRET, indirect=True)
each_timed = pytest.mark.parametrize("caller", TIMED, indirect=True)


def test_every_adapter_is_held_to_these_duties() -> None:
    assert sorted({adapter_of(case) for case in VENDORS}) == [
        name for name, adapter in adapters.items() if adapter.webhooks
    ]


# --- what is right is stored ----------------------------------------------------------------------------------------


@each
def test_a_call_becomes_an_event(caller: Caller) -> None:
    event = stored(caller.call())
    vendor = caller.vendor
    assert (event.type, event.subject, event.source) == (vendor.type, vendor.subject, caller.source.uri)
    assert event.event_id == vendor.id if vendor.id else re.fullmatch(r"[0-9a-f]{64}", event.event_id)
    assert event.due_at is not None


@each
def test_the_event_passes_the_schema_that_came_with_the_adapter(caller: Caller) -> None:
    event = stored(caller.call())
    schema = EventSchema.objects.filter(event_type__name=event.type).first()
    assert (schema is None) == (event.type not in adapters[caller.source.adapter].types)
    assert schema is None or Validator(schema.schema).faults(event.data, "data") == []


@each
def test_a_delivery_that_comes_again_is_a_duplicate(caller: Caller) -> None:
    first = stored(caller.call())
    again = caller.call(at=timezone.now() + timedelta(seconds=30))
    assert again.status_code == 200
    assert json.loads(again.content) == {
        "uid": str(first.uid),
        "id": first.event_id,
        "source": first.source,
        "type": first.type,
        "duplicate": True,
    }
    assert Event.objects.count() == Original.objects.count() == 1


@each
def test_the_call_is_kept_as_it_came_without_its_passwords(caller: Caller) -> None:
    body = caller.vendor.body
    headers = caller.vendor.prove(body, caller.vendor.secret, timezone.now())
    original = stored(caller.send(body, {**headers, "Cookie": "session=1", "X-Api-Key": "shh"})).original
    assert original.body.encode() == body
    assert all(name == name.lower() for name in original.headers)
    assert not {"cookie", "authorization", "x-api-key"} & original.headers.keys()
    assert not caller.vendor.secret or caller.vendor.secret not in json.dumps(original.headers)


@each_secret
def test_two_secrets_are_valid_while_one_is_changed(caller: Caller) -> None:
    caller.source.secret, caller.source.previous_secret = caller.vendor.other_secret, caller.vendor.secret
    caller.source.save()
    stored(caller.call())
    assert caller.call(secret=caller.vendor.other_secret).status_code == 200
    caller.source.previous_secret = ""
    caller.source.save()
    assert caller.call().status_code == 401


# --- what is wrong is refused, and nothing stored ---------------------------------------------------------------------


@each
def test_a_flipped_byte_is_refused(caller: Caller) -> None:
    body = caller.vendor.body
    headers = caller.vendor.prove(body, caller.vendor.secret, timezone.now())
    for place in (0, len(body) // 2, len(body) - 1):
        flipped = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        if caller.vendor.signed:
            refused(caller.send(flipped, headers), 400, 401)
    if proof := headers.get(caller.vendor.proof):
        middle = len(proof) // 2  # the last letter of base64 may hold bits that mean nothing
        wrong = f"{proof[:middle]}{'0' if proof[middle] != '0' else '1'}{proof[middle + 1 :]}"
        refused(caller.send(body, {**headers, caller.vendor.proof: wrong}), 401)


@each
def test_a_missing_header_is_refused(caller: Caller) -> None:
    nothing = {"Content-Type": "application/json"}
    refused(caller.send(caller.vendor.payload.read_bytes(), nothing, query=""), 401)
    if caller.vendor.proof:
        refused(caller.call(changed={caller.vendor.proof: None}), 401)
        refused(caller.call(changed={caller.vendor.proof: ""}), 401)


@each_secret
def test_another_secret_is_refused(caller: Caller) -> None:
    refused(caller.call(secret=caller.vendor.other_secret), 401)


@each
def test_another_algorithm_is_refused(caller: Caller) -> None:
    if caller.vendor.wrong:
        refused(caller.call(prove=caller.vendor.wrong), 401)


@each_timed
def test_an_old_time_is_refused_and_one_that_is_to_come(caller: Caller) -> None:
    for away in (timedelta(days=-1), timedelta(days=1)):
        problem = refused(caller.call(at=timezone.now() + away), 401)
        assert "is it a replay?" in problem["detail"]


@each
@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b'{"a": "\\u0000"}', b"{}"])
def test_a_body_that_is_none_of_the_vendors_is_refused(caller: Caller, body: bytes) -> None:
    """Although it is signed: a mistake of the sender's is no reason for a 500."""
    refused(caller.call(body), 400, 401, 422)


@each
def test_headers_of_all_kinds_are_refused_and_raise_nothing(caller: Caller) -> None:
    for value in ("ÿ", "é=é", "=", ",", "sha256=", "v1,", "t=,v1=", "Basic", "Basic ÿÿ", "9" * 5000):
        if caller.vendor.proof:
            refused(caller.call(changed={caller.vendor.proof: value}), 401)


@each
def test_what_is_too_large_is_refused_before_it_is_looked_at(caller: Caller, settings: Any) -> None:
    settings.EVENT_MAX_BYTES = 100
    assert f"at most {settings.EVENT_MAX_BYTES:,}" in refused(caller.call(), 413)["detail"]


@each
def test_over_the_rate_limit_is_refused(caller: Caller) -> None:
    caller.source.rate_limit = "1/h"
    caller.source.save()
    stored(caller.call())
    answer = caller.call()
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0


@each
def test_a_disabled_source_is_not_there(caller: Caller) -> None:
    caller.source.enabled = False
    caller.source.save()
    refused(caller.call(), 404)


@each
def test_a_source_that_cannot_verify_has_the_sender_try_again(caller: Caller) -> None:
    Source.objects.filter(pk=caller.source.pk).update(settings={"no": "such"})
    answer = caller.call()
    refused(answer, 503)
    assert int(answer["Retry-After"]) > 0


# --- its form and its words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", adapters.names())
def test_it_says_what_it_is_and_what_its_settings_are(name: str) -> None:
    adapter = adapters[name]
    assert adapter.__doc__ != Adapter.__doc__
    assert adapter.__doc__
    assert isinstance(adapter.secret, str)
    for setting, info in adapter.model_fields.items():
        assert info.title, setting
        assert info.description, setting
    assert len(form_fields(adapter, {})) == len(adapter.model_fields)


@each
def test_an_unknown_setting_is_refused_and_the_known_ones_are_named(caller: Caller) -> None:
    caller.source.settings = {**caller.source.settings, "colour": "red"}
    with pytest.raises(ValidationError) as error:
        caller.source.full_clean()
    assert "unknown setting; known: " in str(error.value.message_dict["settings"])


@each_secret
def test_a_source_without_its_secret_is_refused(caller: Caller) -> None:
    caller.source.secret = ""
    with pytest.raises(ValidationError) as error:
        caller.source.full_clean()
    assert list(error.value.message_dict) == ["secret"]


@each
def test_its_types_come_with_the_source_and_leave_those_alone_that_are_there(caller: Caller) -> None:
    types = adapters[caller.source.adapter].types
    assert {name for name in types if EventType.objects.filter(name=name).exists()} == set(types)
    for name, doc in types.items():
        assert doc.description.endswith("."), name
        Validator(doc.schema)
    if types:
        mine = EventType.objects.get(name=next(iter(types)))
        mine.description, mine.retired = "Mine.", True
        mine.save()
        caller.source.bring_types()
        mine.refresh_from_db()
        assert (mine.description, mine.retired, mine.schemas.count()) == ("Mine.", True, 1)
