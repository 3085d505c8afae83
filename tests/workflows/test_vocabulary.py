"""The words that the editor of workflows completes: from the language, the actions and the configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from events.models import EventType
from notifications.models import Channel, Recipient, Template
from tests.workflows.runs import workflow
from workflows.actions import actions
from workflows.vocabulary import vocabulary

pytestmark = pytest.mark.django_db


def named(schema: Any) -> set[str]:
    """Every kind of names that a schema asks for."""
    if isinstance(schema, dict):
        own = {schema["names"]} if isinstance(schema.get("names"), str) else set()
        return own.union(*map(named, schema.values()))
    return set().union(*map(named, schema)) if isinstance(schema, list) else set()


def test_every_kind_of_names_that_an_action_asks_for_is_told() -> None:
    words = vocabulary()
    assert named(list(words["actions"].values())) == {
        *(
            "broker channels",
            "channels",
            "databases",
            "event types",
            "models",
            "targets",
            "tasks",
            "templates",
            "workflows",
        )
    }
    assert named(list(words["actions"].values())) <= words["names"].keys()


def test_names_are_those_that_there_are_now(settings: Any) -> None:
    settings.WORKFLOW_TASKS = ["billing.*", "billing.charge"]
    Channel.objects.create(name="chat", type="slack", description="The shop's", settings={"url": "https://example.com"})
    Recipient.objects.create(name="ada", topics=["on-call", "orders"])
    Recipient.objects.create(name="bob", topics=["orders"])
    Template.objects.create(name="paid", text="x", description="For customers")
    EventType.objects.create(name="order.paid")
    EventType.objects.create(name="old", retired=True)
    workflow("  - {id: a, action: transform, with: {values: 1}}", "order-paid")
    names = vocabulary()["names"]
    assert names["templates"] == {"paid": {"about": "For customers"}}
    assert names["channels"] == {"chat": {"about": "slack · The shop's"}}
    assert list(names["targets"]) == [
        *("channel:chat", "topic:on-call", "topic:orders", "recipient:ada", "recipient:bob", "email:")
    ]
    assert names["models"]["ops.Order"]["members"]["amount"] == "DecimalField"
    assert list(names["event types"]) == ["order.paid"]
    assert list(names["workflows"]) == ["order-paid"]
    assert list(names["tasks"]) == ["billing.charge"]


def test_every_step_and_every_action_has_its_fields_with_words() -> None:
    words = json.loads(json.dumps(vocabulary()))
    step = words["definition"]["$defs"]["Step"]["properties"]
    assert step["if"]["description"] == "An expression; when it is not true, the step is skipped."
    assert words["actions"].keys() == set(actions)
    assert words["actions"]["database.upsert"]["properties"]["key"]["members_of"] == "model"
