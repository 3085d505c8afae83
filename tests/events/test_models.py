"""What the events' models refuse, whoever saves them."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from events.models import EventSchema, EventType, Source, Subscription
from workflows.models import Workflow

pytestmark = pytest.mark.django_db


def refused(row: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    return dict(caught.value.message_dict)


def test_a_subscription_says_everything_that_is_wrong_with_it() -> None:
    EventType.objects.create(name="order.paid")
    row = Subscription(
        name="s",
        types=["order.payed", "*.paid"],
        filter="event.data.x > 1 &&\n evnt.y",
        workflow=Workflow.objects.create(name="w"),
    )
    assert refused(row) == {
        "types": [
            'unknown event type "order.payed", did you mean "order.paid"? known: order.paid',
            '"*.paid" is no pattern: a * stands only at the end, as in order.*',
        ],
        "filter": ['line 2, column 2: unknown variable "evnt", did you mean "event"? known: event'],
    }


def test_a_wrong_line_of_a_filter_is_known_to_the_editor() -> None:
    with pytest.raises(ValidationError) as caught:
        Subscription(types=[], filter="true &&\n nothing").clean()
    assert caught.value.error_dict["filter"][0].params == {
        "path": "",
        "message": 'line 2, column 2: unknown variable "nothing"; known: event',
        "line": 2,
    }


@pytest.mark.parametrize("types", [["later.*"], ["*"], ["order.paid", "order.*"]])
def test_a_pattern_may_wait_for_its_types(types: list[str]) -> None:
    EventType.objects.create(name="order.paid")
    Subscription(name="s", types=types, workflow=Workflow.objects.create(name="w")).full_clean()


def test_a_source_is_held_to_its_adapter_and_rate() -> None:
    wrong = refused(Source(name="s", adapter="fax", rate_limit="often"))
    assert wrong["rate_limit"] == ['"often" is not a rate; write for example 500/s, 30/m or 1000/h']
    assert wrong["adapter"][0].startswith('unknown adapter "fax"; known: ')
    assert refused(Source(name="s", settings={"a": 1})) == {"settings": ["a: unknown setting; known: none"]}
    assert list(refused(Source(name="s", adapter="github"))) == ["secret"]


def test_an_example_has_to_pass_the_latest_schema() -> None:
    row = EventType.objects.create(name="order.paid", example={"amount": "1"})
    row.add_schema(True)
    row.full_clean()
    row.add_schema({"properties": {"amount": {"type": "number"}}})
    assert refused(row) == {"example": ['example.amount: "1" is not of type "number" (schema order.paid v2)']}


def test_schemas_are_added_as_versions_and_only_when_they_differ() -> None:
    row = EventType.objects.create(name="order.paid")
    versions = [row.add_schema(schema).version for schema in (True, True, {"type": "object"}, {"type": "object"}, True)]
    assert versions == [1, 1, 2, 2, 3]
    with pytest.raises(ValidationError) as caught:
        row.add_schema({"type": "objekt"})
    assert list(caught.value.message_dict) == ["schema"]
    assert EventSchema.objects.count() == 3
