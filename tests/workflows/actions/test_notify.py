"""`notify` makes deliveries, which the sender then sends."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pydantic import ValidationError

from notifications.models import Channel, Delivery, DeliveryState, Recipient, Template
from tests.workflows.actions.calls import call, problems, run, run_one
from workflows.actions import StepError, actions

pytestmark = pytest.mark.django_db

CONTEXT = {"event": {"type": "order.paid", "data": {"order_id": "A1", "amount": 120}}, "steps": {}, "run": {}}
PAID: dict[str, Any] = {"to": ["recipient:ada"], "template": "paid"}


@pytest.fixture(autouse=True)
def _somebody_to_tell() -> None:
    Channel.objects.create(name="mail", type="email", default=True)
    Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hook"})
    Template.objects.create(
        name="paid",
        subject="Order {{ event.data.order_id }} paid",
        text="{{ event.data.amount }} {{ thanks | default: '' }}",
    )
    Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"}, topics=["orders"])
    Recipient.objects.create(
        name="bob", addresses={"email": "bob@example.com"}, topics=["orders"], preferences={"news": {"email": False}}
    )


def test_a_delivery_is_made_of_the_template_and_what_the_run_knows() -> None:
    [output] = run("notify", {**PAID, "data": {"thanks": "Thanks!"}}, context=CONTEXT)
    row = Delivery.objects.get()
    assert output == {"deliveries": [str(row.uid)], "skipped": 0}
    assert (row.kind, row.to, row.template, row.priority) == ("email", "ada@example.com", "paid", "normal")
    assert (row.message["subject"], row.message["text"]) == ("Order A1 paid", "120 Thanks!")


def test_the_settings_of_the_step_are_the_deliverys() -> None:
    run("notify", {**PAID, "category": "orders", "priority": "critical", "dedupe_key": "A1"}, context=CONTEXT)
    row = Delivery.objects.get()
    assert (row.category, row.priority, row.dedupe_key) == ("orders", "critical", "A1")


def test_what_is_skipped_is_counted_and_told() -> None:
    [output] = run("notify", {"to": ["topic:orders"], "template": "paid", "category": "news"}, context=CONTEXT)
    assert output["skipped"] == 1
    states = dict(Delivery.objects.filter(uid__in=output["deliveries"]).values_list("to", "state"))
    assert states == {"ada@example.com": DeliveryState.PENDING, "bob@example.com": DeliveryState.SKIPPED}


def test_the_same_step_run_tells_it_once_however_often_it_is_tried() -> None:
    notify = actions["notify"]
    one = (notify.model_validate(PAID), call(CONTEXT))
    assert notify.run_batch([one]) == notify.run_batch([one])
    assert Delivery.objects.get().origin == one[1].uid


def test_a_batch_takes_as_many_statements_as_one() -> None:
    def statements(size: int) -> int:
        with CaptureQueriesContext(connection) as queries:
            outputs = run("notify", *[PAID] * size, context=CONTEXT)
        assert len({uid for output in outputs for uid in output["deliveries"]}) == size
        return len(queries)

    statements(1)  # reads the configuration
    assert statements(50) == statements(1)


def test_what_cannot_be_composed_fails_the_step_for_good() -> None:
    with pytest.raises(StepError, match="order_id") as error:
        run("notify", PAID, context={"event": {"data": {}}})
    assert error.value.permanent
    with pytest.raises(StepError, match='unknown recipient "eve"'):
        run_one("notify", to=["recipient:eve"], template="paid")


def test_nobody_to_tell_and_unknown_priorities_are_refused() -> None:
    with pytest.raises(ValidationError, match="to"):
        run_one("notify", to=[], template="paid")
    with pytest.raises(ValidationError, match="'low', 'normal', 'high' or 'critical'"):
        run_one("notify", **PAID, priority="urgent")


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"template": "piad"}, "template", 'unknown template "piad", did you mean "paid"? known: paid'),
        ({"channel": "fax"}, "channel", 'unknown channel "fax"; known: chat, mail'),
        ({"to": ["recipient:ada", "recipient:eve"]}, "to[1]", 'unknown recipient "eve"; known: ada, bob'),
        ({"to": ["channel:fax"]}, "to[0]", 'unknown channel "fax"; known: chat, mail'),
        ({"to": ["fax:123"]}, "to[0]", '"fax:123" is no target; write channel:NAME, recipient:NAME, topic:NAME'),
        ({"to": ["email:nobody"]}, "to[0]", ""),
        ({"to": ["nobody"]}, "to[0]", '"nobody" is no target'),
    ],
)
def test_unknown_names_are_refused_when_a_workflow_is_saved(changes: dict[str, Any], path: str, message: str) -> None:
    found = problems("notify", **{**PAID, **changes})
    assert list(found) == [path]
    assert found[path].startswith(message)


def test_only_programs_need_no_words() -> None:
    Channel.objects.create(name="hook", type="webhook", settings={"url": "https://example.com/hook"})
    assert problems("notify", to=["channel:hook"]) == {}
    assert problems("notify", to=["channel:hook", "channel:chat"]) == {
        "to[1]": "channel chat (slack) sends text, so the step needs a template"
    }
    run("notify", {"to": ["channel:hook"]}, context=CONTEXT)
    with pytest.raises(StepError, match="needs a template"):
        run_one("notify", to=["channel:chat"])


def test_what_is_right_or_not_known_yet_is_accepted() -> None:
    dynamic = "${{ event.data.x }}"
    for to in (
        ["channel:chat"],
        ["topic:orders", "topic:nobody-yet"],
        ["email:x@example.com"],
        ["x@example.com"],
        [dynamic],
        dynamic,
    ):
        assert problems("notify", to=to, template="paid") == {}
    assert problems("notify", to=["recipient:ada"], template=dynamic, channel=dynamic, priority=dynamic) == {}
