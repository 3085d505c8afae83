"""`publish` makes a delivery of an event, which the sender then publishes by a channel on a broker."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pydantic import ValidationError

from notifications.models import Channel, Delivery, DeliveryState
from tests.workflows.actions.calls import call, problems, run, run_one
from workflows.actions import StepError
from workflows.actions.publish import Publish
from workflows.definition import parse
from workflows.rehearsal import rehearse

pytestmark = pytest.mark.django_db

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "A-1/paid",
    "source": "/shop",
    "type": "order.paid",
    "subject": "A-1",
    "time": "2026-01-31T12:00:00Z",
    "uid": "01990f3c-0000-7000-8000-000000000000",
    "depth": 2,
    "traceparent": "00-1-2-01",
    "data": {"order_id": "A-1", "amount": 120},
}
CONTEXT = {"event": EVENT, "steps": {}, "run": {}}


@pytest.fixture(autouse=True)
def _channels() -> None:
    Channel.objects.create(name="bus", type="redis", settings={"url": "redis://localhost/0", "stream": "events"})
    Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hook"})


def published(context: dict[str, Any] = CONTEXT, depth: int = 0, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """The output, and what the delivery sends."""
    [output] = run("publish", {"channel": "bus", **settings}, context=context, depth=depth)
    return output, Delivery.objects.get(pk=output["deliveries"][0]).message


def test_with_a_channel_alone_the_runs_event_goes_on_as_it_is() -> None:
    output, message = published()
    ours = {name: value for name, value in EVENT.items() if name not in ("uid", "depth", "data")}
    assert message == {"type": "order.paid", "event": {**ours, "carillondepth": 1}, "data": EVENT["data"]}
    row = Delivery.objects.get()
    assert output == {"deliveries": [str(row.uid)], "skipped": 0, "id": "A-1/paid"}
    assert (row.kind, row.to, row.state, row.template) == ("redis", "", "pending", "")


def test_with_more_it_is_a_new_event_of_ours_that_inherits_the_rest() -> None:
    one = call(CONTEXT)
    output: Any = Publish.run_batch([(Publish(channel="bus", type="invoice.due"), one)])[0]
    message = Delivery.objects.get().message
    assert output["id"] == one.key
    ours = {"id": one.key, "source": "/carillon", "type": "invoice.due", "subject": "A-1"}
    assert message["event"] == {**ours, "carillondepth": 1}
    assert message["data"] == EVENT["data"]


def test_everything_can_be_given() -> None:
    given: dict[str, Any] = {
        "type": "t",
        "subject": "s",
        "data": [1, None],
        "id": "i",
        "source": "/billing",
        "extensions": {"vip": True},
    }
    _, message = published(**given)
    ours = {"id": "i", "source": "/billing", "type": "t", "subject": "s", "vip": True}
    assert message["event"] == {**ours, "carillondepth": 1}
    assert message["data"] == [1, None]
    assert published(data=None)[1]["data"] is None


def test_extensions_are_added_to_an_event_that_goes_on() -> None:
    _, message = published(extensions={"partitionkey": "7"})
    assert (message["event"]["id"], message["event"]["partitionkey"]) == ("A-1/paid", "7")


def test_a_published_event_is_one_deeper_than_the_run_until_the_loop_guard_ends_it() -> None:
    assert published(depth=19)[1]["event"]["carillondepth"] == 20
    with pytest.raises(StepError, match="the loop guard: 20 events led to this one") as error:
        run("publish", {"channel": "bus"}, context=CONTEXT, depth=20)
    assert error.value.permanent


def test_an_input_that_is_no_event_needs_a_type() -> None:
    context = {"event": {"order_id": "A-1"}}
    with pytest.raises(StepError, match="give `type`") as error:
        run("publish", {"channel": "bus"}, context=context)
    assert error.value.permanent
    _, message = published(context, type="order.started")
    assert message["data"] == {"order_id": "A-1"}


def test_the_same_step_run_publishes_it_once_however_often_it_is_tried() -> None:
    one = (Publish(channel="bus", type="x"), call(CONTEXT))
    assert Publish.run_batch([one]) == Publish.run_batch([one])
    assert Delivery.objects.get().origin == one[1].uid


def test_a_batch_takes_as_many_statements_as_one() -> None:
    def statements(size: int) -> int:
        with CaptureQueriesContext(connection) as queries:
            run("publish", *[{"channel": "bus"}] * size, context=CONTEXT)
        return len(queries)

    statements(1)  # reads the configuration
    assert statements(50) == statements(1)


def test_a_disabled_channel_skips_it_and_says_so() -> None:
    Channel.objects.filter(name="bus").update(enabled=False)
    output, _ = published()
    assert output["skipped"] == 1
    row = Delivery.objects.get()
    assert (row.state, row.reason) == (DeliveryState.SKIPPED, "channel bus is disabled")


def test_a_fallback_that_speaks_to_people_shows_the_data() -> None:
    Channel.objects.filter(name="bus").update(enabled=False, fallback=Channel.objects.get(name="chat"))
    run("publish", {"channel": "bus"}, context=CONTEXT)
    stand_in = Delivery.objects.get(channel__name="chat")
    assert stand_in.instead_of == Delivery.objects.get(channel__name="bus").uid
    assert stand_in.message["subject"] == "order.paid"
    assert "A-1" in stand_in.message["text"]


def test_a_channel_that_takes_no_events_is_refused_when_it_is_saved_and_when_it_runs() -> None:
    assert problems("publish", channel="chat") == {
        "channel": '"chat" takes no events, it is of type slack; channels on a broker: bus'
    }
    assert problems("publish", channel="bsu") == {"channel": 'unknown channel "bsu", did you mean "bus"? known: bus'}
    assert problems("publish", channel="${{ event.data.x }}") == {}
    with pytest.raises(StepError, match="is of type slack, which takes no events"):
        run_one("publish", channel="chat", type="x")
    with pytest.raises(StepError, match='unknown channel "bsu"'):
        run_one("publish", channel="bsu", type="x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "x" * 201},
        {"subject": "two\nlines"},
        {"extensions": {"Trace-Parent": "x"}},
        {"extensions": {"subject": "x"}},
        {"extensions": {"carillondepth": 0}},
        {"extensions": {"tags": ["a"]}},
    ],
    ids=str,
)
def test_what_is_no_attribute_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        run_one("publish", channel="bus", **{"type": "x", **wrong})


def test_a_notification_to_a_broker_keeps_the_events_subject() -> None:
    assert problems("notify", to=["channel:bus"]) == {}
    run("notify", {"to": ["channel:bus"]}, context=CONTEXT)
    message = Delivery.objects.get().message
    assert (message["type"], message["event"], message["data"]) == ("order.paid", {"subject": "A-1"}, EVENT)


def test_a_test_run_shows_the_event_and_publishes_nothing() -> None:
    definition = parse("name: w\nsteps:\n  - {id: tell, action: publish, with: {channel: bus, type: invoice.due}}")
    (told,) = rehearse(definition, EVENT).steps
    assert told.rehearsal is not None
    assert told.rehearsal.would == "publish an event invoice.due by the channel bus"
    (delivery,) = told.rehearsal.deliveries
    assert delivery["message"]["event"]["type"] == "invoice.due"
    assert not Delivery.objects.exists()
