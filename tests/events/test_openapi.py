"""The events API does what its OpenAPI document says, whatever is sent to it."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from django.core.management import call_command
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.events.conftest import Producer

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
            del operation["security"]  # what is wrong with a key is told in test_answers.py
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


OPERATIONS = ["send_events", "list_events", "get_event", "trace_event"]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_a_documented_one(shop: Producer, operation: str, mode: GenerationMode) -> None:
    """No 5xx, no undocumented status, type or shape; what is wrong is refused and what is right is taken."""
    schema = schemathesis.openapi.from_dict(document(shop))
    schema.config.generation.update(allow_x00=False)  # it cannot be said of any data that NUL is not among it
    known = shop.send({"type": "note"}).json()["uid"]
    unused: list[CheckFunction] = [] if operation == "send_events" else [positive_data_acceptance]  # 404 is right, too

    @SETTINGS
    @given(case=schema.find_operation_by_id(operation).as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case[Any]) -> None:
        if mode is GenerationMode.POSITIVE and case.path_parameters and case.path_parameters["uid"][0] in "01234567":
            case.path_parameters["uid"] = known
        response = case.call(base_url=shop.url.partition("/api")[0], headers={"Authorization": f"Bearer {shop.key}"})
        case.validate_response(response, excluded_checks=unused)

    check()
