"""The events API does what its OpenAPI document says, whatever is sent to it."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from django.core.management import call_command
from django.db import transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from events.models import Subscription
from notifications.models import Channel, Delivery, DeliveryState, Recovery
from tests.events.conftest import Producer
from workflows import engine
from workflows.models import Record
from workflows.publishing import publish
from workflows.scope import token_of
from workflows.work import Start

SETTINGS = settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def document(shop: Producer) -> dict[str, Any]:
    """The document as it is served; types and sources are narrowed to those that exist here."""
    served = requests.get(shop.url.replace("/v1/events", "/schema"), headers={"Accept": "application/json"}, timeout=30)
    found: dict[str, Any] = served.json()
    for operations in found["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)  # what is wrong with a key is told in test_answers.py
    narrow(found["paths"]["/api/v1/events"]["post"]["requestBody"])
    return found


def narrow(part: Any) -> None:
    if isinstance(part, dict):
        properties = part.get("properties", {})
        if part.get("additionalProperties"):  # attribute names are narrower than OpenAPI 3.0 can say
            part["additionalProperties"] = False
        if "type" in properties:
            properties["type"] = {"type": "string", "enum": ["note"]}
        if "source" in properties:
            properties["source"] = {"type": "string", "enum": ["/shop", "/shop/eu"]}
        for value in part.values():
            narrow(value)
    elif isinstance(part, list):
        for value in part:
            narrow(value)


def test_the_document_is_valid_and_complete(tmp_path: Any) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))


OPERATIONS = [
    *("send_events", "list_events", "get_event", "get_original", "trace_event", "replay_event", "call_hook"),
    *("list_runs", "get_run", "cancel_run", "cancel_runs", "retry_run", "start_run", "complete_step"),
    *("list_deliveries", "get_delivery", "retry_delivery", "recover_deliveries", "get_recovery"),
    *("list_records", "get_record"),
    *("dry_run_subscription", "check_expression"),
]


def known(shop: Producer) -> list[dict[str, Any]]:
    """What is there, as path parameters: an event, a run that waits for a decision and one that failed, a delivery that
    did, a record, a recovery."""
    event = shop.send({"type": "note"}).json()["uid"]
    version, _ = publish("name: w\nsteps: [{id: ack, action: approval}]")
    failing, _ = publish("name: f\nsteps: [{id: no, action: fail, with: {message: no}}]")
    with transaction.atomic():
        starts = [Start(it.workflow_id, it.pk, {"a": 1}) for it in (version, failing)]
        waiting, failed = engine.start(starts, at_once=False)
    while engine.advance():
        pass
    Record.objects.create(collection="c", key="k", value={"a": 1})
    Subscription.objects.create(name="w", types=["*"], workflow=version.workflow, filter="event.data.a > 1")
    channel = Channel.objects.create(name="w", type="webhook", settings={"url": "https://example.com"})
    delivery = Delivery.objects.create(
        channel=channel, kind="webhook", message={"text": "hello"}, state=DeliveryState.FAILED, finished_at=Now()
    )
    number = Recovery.objects.create(channel=channel, since=Now(), found=0).pk
    more = {
        "number": number,
        "token": token_of(waiting.uid, "ack"),
        "name": "w",
        "collection": "c",
        "key": "k",
        "source": "s",
    }
    return [{"uid": str(uid), **more} for uid in (event, waiting.uid, failed.uid, delivery.uid)]


def test_every_operation_is_tried(shop: Producer) -> None:
    found = {each["operationId"] for path in document(shop)["paths"].values() for each in path.values()}
    assert found == set(OPERATIONS)


MODES = {"right": GenerationMode.POSITIVE, "wrong": GenerationMode.NEGATIVE}
UNFAILING = {"get_record", "call_hook"}  # take texts, or any body, so nothing can be wrong


@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        pytest.param(operation, mode, id=f"{operation}-{name}")
        for operation in OPERATIONS
        for name, mode in MODES.items()
        if not (name == "wrong" and operation in UNFAILING)
    ],
)
def test_every_answer_is_a_documented_one(shop: Producer, operation: str, mode: GenerationMode) -> None:
    """No 5xx, no undocumented status, type or shape; what is wrong is refused and what is right is taken."""
    schema = schemathesis.openapi.from_dict(document(shop))
    schema.config.generation.update(allow_x00=False)  # it cannot be said of any data that NUL is not among it
    there = known(shop)
    # 404 and 409 are right, too.
    unused: list[CheckFunction] = [] if operation == "send_events" else [positive_data_acceptance]

    @SETTINGS
    @given(case=schema.find_operation_by_id(operation).as_strategy(generation_mode=mode), data=st.data())
    def check(case: schemathesis.Case[Any], data: st.DataObject) -> None:
        if (
            mode is GenerationMode.POSITIVE
            and case.path_parameters
            and (choice := data.draw(st.integers(0, 7))) < len(there)
        ):
            case.path_parameters = {name: there[choice][name] for name in case.path_parameters}
        response = case.call(base_url=shop.url.partition("/api")[0], headers={"Authorization": f"Bearer {shop.key}"})
        if "needs more than 64 bits" in response.text:
            return  # nor of any number that it is not too long
        if any(f"not '{day}" in response.text for day in ("0001-01-01", "9999-12-31")):
            return  # nor of any time that it is not before the first year in UTC, or after the last
        # A batch of too many is refused by 413, which schemathesis does not take for a refusal.
        too_large = [negative_data_rejection] if response.status_code == 413 else []
        case.validate_response(response, excluded_checks=[*unused, *too_large])

    check()
