"""GitHub: every example that the community has collected, and what is special."""

from __future__ import annotations

import json
import lzma
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from events.models import Event, EventType
from events.schemas import Validator
from events.sources.github import GitHub
from tests.events.sources.conftest import Caller, refused, stored
from tests.events.sources.vendors import PAYLOADS, VENDORS, hexdigest

pytestmark = [pytest.mark.django_db, pytest.mark.parametrize("caller", ["github"], indirect=True)]

PACKED: Final = PAYLOADS / "github" / "octokit-webhooks-examples-7.6.1.json.xz"
EXAMPLES: Final[dict[str, Any]] = json.loads(lzma.decompress(PACKED.read_bytes()))  # by case: push, push-2 …
SECRET: Final = VENDORS["github"].secret
PINGS: Final = [case for case in EXAMPLES if case.startswith("ping")]


def headers(event: str, body: bytes, delivery: str) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": f"sha256={hexdigest(SECRET, body)}",
    }


def test_every_example_becomes_an_event_that_passes_its_schema(caller: Caller) -> None:
    assert len(EXAMPLES) == 329
    for case, payload in EXAMPLES.items():
        event = case.rstrip("0123456789").rstrip("-")
        body = json.dumps(payload).encode()
        answer = caller.send(body, headers(event, body, case))
        if case in PINGS:
            assert (answer.status_code, json.loads(answer.content)) == (200, {"pong": payload["zen"]})
            continue
        kept = stored(answer)
        assert (kept.type, kept.event_id, kept.data) == (f"github.{event}", case, payload)
        assert f"github.{event}" in GitHub.types, case
        assert Validator(GitHub.types[f"github.{event}"].schema).faults(payload, case) == []
        assert kept.subject or event in ("github_app_authorization", "security_advisory")
    assert Event.objects.count() == len(EXAMPLES) - len(PINGS)


def test_its_schemas_ask_for_something(caller: Caller) -> None:
    for name, doc in GitHub.types.items():
        assert Validator(doc.schema).faults({}, "data"), name


def test_a_form_carries_the_same(caller: Caller) -> None:
    body = urlencode({"payload": json.dumps(EXAMPLES["fork-1"])}).encode()
    sent = headers("fork", body, "1") | {"Content-Type": "application/x-www-form-urlencoded"}
    event = stored(caller.send(body, sent))
    assert event.data == EXAMPLES["fork-1"]
    assert event.original.body.startswith("payload=")


def test_an_event_that_nobody_knows_yet_brings_its_type(caller: Caller) -> None:
    body = b'{"action": "hummed", "repository": {"full_name": "octo-org/octo-repo"}}'
    event = stored(caller.send(body, headers("chorus", body, "1")))
    assert event.subject == "octo-org/octo-repo"
    schema = EventType.objects.get(name="github.chorus").schemas.get().schema
    assert Validator(schema).faults({"action": 5}, "data")


@pytest.mark.parametrize("event", ["", "push; drop", "Ω", "a" * 200])
def test_an_event_without_a_proper_name_is_refused(caller: Caller, event: str) -> None:
    body = b'{"zen": "Keep it logically awesome."}'
    refused(caller.send(body, headers(event, body, "1")), 400)
    assert not EventType.objects.filter(name__startswith="github.a" * 2).exists()


def test_a_type_that_was_retired_is_refused(caller: Caller) -> None:
    EventType.objects.filter(name="github.workflow_run").update(retired=True)
    refused(caller.call(), 422)


def test_a_signature_by_sha1_beside_the_right_one_does_not_help(caller: Caller) -> None:
    body = caller.vendor.body
    sha1 = f"sha1={hexdigest(caller.vendor.secret, body, 'sha1')}"
    wrong = {**caller.vendor.prove(body, "another", timezone.now()), "X-Hub-Signature": sha1}
    refused(caller.send(body, wrong), 401)
