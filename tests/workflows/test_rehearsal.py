"""A test run: the steps that a real run would do, in the words of their actions; nothing is sent, nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from events.models import Event, EventType
from examples.ops.models import Incident, Order
from notifications.models import Attempt, Channel, Delivery, Recipient, Template
from tests.workflows.runs import drain, start, workflow
from workflows.actions import Action, Call, action, actions
from workflows.actions.base import Performed, Rehearsal
from workflows.definition import parse
from workflows.models import Gate, Record, Run, StepRun, Workflow
from workflows.rehearsal import MOST_STEPS, Given, Story, given_outcomes, rehearse

pytestmark = pytest.mark.django_db(transaction=True)

PAID = {"type": "order.paid", "id": "7", "data": {"order_id": "A-7", "amount": 120.5, "customer": "Ada"}}


def try_out(steps: str, event: dict[str, Any] | None = None, rest: str = "", **given: Any) -> Story:
    outcomes = given_outcomes.validate_python(given)
    return rehearse(parse(f"name: w\nsteps:\n{steps}\n{rest}"), PAID if event is None else event, outcomes)


def told(story: Story) -> dict[str, str]:
    """What each step, or item, would do, or why it does nothing."""
    found = {}
    for step in story.steps:
        name = step.row.step if step.row.item is None else f"{step.row.step}[{step.row.item}]"
        would = step.rehearsal.would if step.rehearsal else ""
        found[name] = " · ".join(filter(None, [step.row.state, would, step.row.error]))
    return found


@pytest.fixture
def people() -> None:
    Channel.objects.create(name="mail", type="email", default=True)
    Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/chat"})
    Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"}, topics=["orders"], language="de")
    Recipient.objects.create(name="bob", addresses={"email": "bob@example.com"}, topics=["orders"], enabled=False)
    Template.objects.create(
        name="paid",
        subject="{{ event.data.order_id }} paid",
        text="{{ event.data.amount }}",
        html="<b>{{ event.data.customer }}</b>",
        languages={"de": {"subject": "{{ event.data.order_id }} bezahlt"}},
    )


def test_nothing_is_sent_and_nothing_is_stored(people: None) -> None:
    EventType.objects.create(name="order.shipped")
    workflow("  - {id: a, action: fail, with: {message: no}}", "child")
    before = [model.objects.count() for model in EVERYTHING]
    story = try_out(
        """
  - {id: keep, action: database.upsert, with: {model: ops.Order, key: {order_id: A-7}, values: {amount: 1}}}
  - {id: note, action: record.put, with: {collection: c, key: k, value: 1}}
  - {id: tell, action: notify, with: {to: ["topic:orders"], template: paid, dedupe_key: once}}
  - {id: say, action: event.emit, with: {type: order.shipped}}
  - {id: hear, action: event.wait, with: {type: order.shipped, timeout: 1h}}
  - {id: slow, action: throttle, with: {per: 1m}}
  - {id: gather, action: digest, with: {window: 1h}}
  - {id: calm, action: debounce, with: {quiet: 1m}}
  - {id: ask, action: approval}
  - {id: start, action: workflow.run, with: {workflow: child}}
  - {id: call, action: http.request, with: {method: POST, url: "https://example.com/charge"}}
"""
    )
    assert told(story) == {
        "keep": "succeeded · add a row to ops.Order",
        "note": "succeeded · make the record c/k",
        "tell": "succeeded · make 1 delivery",
        "say": "succeeded · store an event order.shipped",
        "hear": "succeeded · wait for an event order.shipped, at most 1h",
        "slow": "succeeded · pass, or wait for its turn: 1 in 1m",
        "gather": told(story)["gather"],
        "calm": "succeeded · wait until no other run has come for 1m, and end if one came",
        "ask": "succeeded · wait for a person's decision",
        "start": "succeeded · start the workflow child, and wait for it",
        "call": "succeeded · send POST https://example.com/charge",
    }
    assert story.run.state == "succeeded"
    assert [model.objects.count() for model in EVERYTHING] == before


EVERYTHING: tuple[Any, ...] = (Run, StepRun, Delivery, Attempt, Event, Gate, Record, Order, Incident, Workflow)


def test_steps_read_each_others_outputs_and_conditions_say_why_they_skip() -> None:
    story = try_out(
        """
  - {id: shape, action: transform, with: {values: {total: "${{ event.data.amount * 2.0 }}"}}}
  - {id: big, if: steps.shape.output.total > 1000.0, action: transform, with: {values: 1}}
  - {id: more, action: transform, with: {values: "${{ steps.shape.output.total + 1.0 }}"}}
"""
    )
    shape, big, more = story.steps
    assert (shape.row.output, shape.known) == ({"total": 241.0}, "sure")
    assert big.row.state == "skipped"
    assert big.row.output == {"reason": "steps.shape.output.total > 1000.0 is false (steps.shape.output.total = 241.0)"}
    assert more.row.output == 242.0


def test_a_test_run_and_a_real_run_take_the_same_way() -> None:
    steps = """
  - {id: lines, for_each: "${{ event.lines }}", if: item.n > 1, on_error: continue, action: transform,
     with: {values: "${{ 10 / (item.n - 2) }}"}}
  - {id: left, needs: [lines], if: "size(steps.lines.errors) > 0", action: transform, with: {values: {bad: 1}},
     undo: {action: transform, with: {values: "${{ failure.error }}"}}}
  - {id: right, needs: [lines], action: transform, with: {values: "${{ event.missing }}"}, on_error: continue}
  - {id: refuse, needs: [left, right], action: fail, with: {message: "no ${{ steps.left.output.bad }}"}}
  - {id: never, needs: [refuse], action: transform, with: {values: 1}}
"""
    rest = "on_failure:\n  - {id: last, action: transform, with: {values: '${{ failure.step }}'}}\n"
    event = {"lines": [{"n": 1}, {"n": 2}, {"n": 4}]}
    (run,) = start(workflow(steps, "w", rest), event)
    drain()
    real = Run.objects.get(pk=run.pk)
    story = try_out(steps, event, rest)
    rows = {(row.step, row.item): row for row in StepRun.objects.filter(run=run)}
    assert {(step.row.step, step.row.item): step.row.state for step in story.steps} == {
        place: row.state for place, row in rows.items()
    }
    for step in story.steps:
        row = rows[step.row.step, step.row.item]
        assert (step.row.input, step.row.output, step.row.error) == (row.input, row.output, row.error)
    assert (story.run.state, story.run.error) == (real.state, real.error)
    assert story.states == {id_: entry["state"] for id_, entry in real.steps.items() if "state" in entry}


def test_who_would_be_told_what_in_which_words(people: None) -> None:
    Recipient.objects.filter(name="ada").update(quiet_hours={"from": "00:00", "to": "23:59"})
    story = try_out("  - {id: tell, action: notify, with: {to: ['topic:orders', 'channel:chat'], template: paid}}")
    (step,) = story.steps
    assert step.rehearsal is not None
    by_address = {one["to"]: one for one in step.rehearsal.deliveries}
    ada, bob, chat = by_address["ada@example.com"], by_address["bob@example.com"], by_address[""]
    assert (ada["to"], ada["message"]["subject"], ada["message"]["html"]) == (
        "ada@example.com",
        "A-7 bezahlt",
        "<b>Ada</b>",
    )
    assert ada["due_at"]  # not now: it would be quiet
    assert (bob["state"], bob["reason"]) == ("skipped", "recipient bob is disabled")
    assert chat["message"]["subject"] == "A-7 paid"
    assert step.row.output["skipped"] == 1


def test_a_notification_that_would_be_a_duplicate_is_told_so(people: None) -> None:
    steps = "  - {id: tell, action: notify, with: {to: ['recipient:ada'], template: paid, dedupe_key: once}}"
    start(workflow(steps), PAID)
    drain()
    (step,) = try_out(steps).steps
    assert step.rehearsal is not None
    assert "a duplicate of delivery" in step.rehearsal.deliveries[0]["reason"]


def test_a_template_that_cannot_be_rendered_fails_its_step_as_it_would(people: None) -> None:
    event = {**PAID, "data": {"order_id": "A-7"}}
    story = try_out("  - {id: tell, action: notify, with: {to: ['recipient:ada'], template: paid}}", event)
    assert story.run.state == "failed"
    assert "template paid, text, line 1" in story.steps[0].row.error


def test_database_steps_tell_what_they_would_meet_now() -> None:
    Order.objects.create(order_id="A-7", amount=1, customer="Ada")
    steps = """
  - {id: up, action: database.upsert, with: {model: ops.Order, key: {order_id: A-7}, values: {amount: 2}}}
  - {id: change, action: database.update, with: {model: ops.Order, where: {customer: Ada}, values: {amount: 3}}}
  - {id: add, action: database.insert, with: {model: ops.Order, values: {order_id: A-8, amount: 2}}}
  - {id: gone, action: database.delete, with: {model: ops.Order, where: {customer: Grace}}}
"""
    story = try_out(steps)
    assert told(story) == {
        "up": "succeeded · change a row of ops.Order",
        "change": "succeeded · change 1 row of ops.Order",
        "add": "succeeded · add a row to ops.Order",
        "gone": "succeeded · delete 0 rows of ops.Order",
    }
    assert story.steps[0].row.output == {"created": False, "changed": True, "key": {"order_id": "A-7"}}
    assert story.steps[2].row.output == {"created": True, "key": {"order_id": "A-8"}}
    assert Order.objects.get().amount == 1


def test_a_value_that_does_not_fit_its_field_fails_the_step_as_it_would() -> None:
    story = try_out(
        "  - {id: up, action: database.insert,"
        ' with: {model: ops.Order, values: {order_id: "${{ event.id }}", amount: "${{ event.data.customer }}"}}}'
    )
    assert story.run.state == "failed"
    assert "values.amount" in story.steps[0].row.error


def test_if_newer_is_asked_of_the_row_that_is_there() -> None:
    Order.objects.create(order_id="A-7", amount=1, customer="Ada", paid_at="2026-01-02T00:00:00Z")
    steps = """
  - id: up
    action: database.upsert
    with:
      model: ops.Order
      key: {order_id: A-7}
      values: {amount: 2, paid_at: "${{ event.time }}"}
      if_newer: paid_at
"""
    (older,) = try_out(steps, {"time": "2026-01-01T00:00:00Z"}).steps
    (newer,) = try_out(steps, {"time": "2026-01-03T00:00:00Z"}).steps
    assert (older.row.output["changed"], newer.row.output["changed"]) == (False, True)


def test_what_somebody_says_a_step_leaves_is_what_later_steps_see() -> None:
    steps = """
  - {id: call, action: http.request, with: {url: "https://example.com/price"}, retry: {attempts: 5}}
  - {id: show, action: transform, with: {values: "${{ steps.call.output.body.price }}"}}
"""
    made_up = try_out(steps)
    assert made_up.steps[0].known == "example"
    assert made_up.run.state == "failed"  # nobody knows the body
    said = try_out(steps, call={"output": {"status": 200, "body": {"price": 7}}})
    assert (said.steps[0].known, said.steps[1].row.output) == ("given", 7)
    refused = try_out(steps, call={"error": "answered 402"})
    assert told(refused) == {"call": "failed · send GET https://example.com/price · answered 402"}


def test_an_output_that_nobody_knows_is_named() -> None:
    @action("tests.mystery")
    class Mystery(Action):
        """Does what nobody knows."""

    try:
        story = try_out("  - {id: what, action: tests.mystery}\n  - {id: end, action: transform, with: {values: 1}}")
    finally:
        actions._classes.pop("tests.mystery")
    assert story.unknown == ["what"]
    assert told(story)["what"] == "succeeded · do tests.mystery"


def test_an_action_that_writes_while_it_rehearses_is_stopped_by_postgresql() -> None:
    @action("tests.careless")
    class Careless(Action):
        """Writes where it should only tell."""

        def rehearse(self, call: Call) -> Rehearsal:
            Record.objects.create(collection="c", key="k", value=1)
            return Rehearsal("keep a record")

    try:
        story = try_out(
            "  - {id: bad, action: tests.careless, on_error: continue}\n"
            "  - {id: good, action: record.put, with: {collection: c, key: k, value: 1}}"
        )
    finally:
        actions._classes.pop("tests.careless")
    assert "read-only transaction" in told(story)["bad"]
    assert told(story)["good"] == "succeeded · make the record c/k"
    assert not Record.objects.exists()


def test_a_loop_without_end_is_cut() -> None:
    items = list(range(400))
    story = try_out(
        f"  - {{id: one, for_each: {items}, action: transform, with: {{values: 1}}}}\n"
        f"  - {{id: two, for_each: {items}, action: transform, with: {{values: 1}}}}"
    )
    assert len(story.steps) == MOST_STEPS
    assert story.cut.startswith("The test run ends here, after 500 steps")


def test_it_waits_for_nobody_who_holds_the_rows(people: None) -> None:
    Order.objects.create(order_id="A-7", amount=1)
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM orders_paid FOR UPDATE")
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('dedupe once', 0))")
        story = try_out(
            """
  - {id: up, action: database.update, with: {model: ops.Order, where: {order_id: A-7}, values: {amount: 2}}}
  - {id: tell, action: notify, with: {to: ["recipient:ada"], template: paid, dedupe_key: once}}
"""
        )
    finally:
        other.close()
    assert told(story)["up"] == "succeeded · change 1 row of ops.Order"
    assert told(story)["tell"] == "succeeded · make 1 delivery"


@pytest.mark.parametrize("cls", actions.items(), ids=[name for name, _ in actions.items()])
def test_every_action_of_ours_can_be_rehearsed(cls: tuple[str, type[Action]]) -> None:
    name, kind = cls
    if kind.__module__.startswith(("workflows.", "events.")):
        assert kind.rehearse is not Action.rehearse, f"{name} leaves its output unknown"
    assert Performed.rehearse is Action.rehearse


def test_what_a_step_leaves_is_an_output_or_an_error() -> None:
    assert given_outcomes.validate_python({"a": {"output": [1]}, "b": {"error": "no"}})["a"] == Given(output=[1])
    with pytest.raises(ValueError, match="outptu"):
        given_outcomes.validate_python({"a": {"outptu": 1}})
