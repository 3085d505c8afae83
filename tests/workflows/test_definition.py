"""The workflow language: what it takes, and what it refuses with which words."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from project.documents import write
from project.expressions import make_context
from project.retry import RetryPolicy
from workflows.actions.transform import Transform
from workflows.definition import Definition, DefinitionError, Problem, parse

FULL = """\
kind: Workflow
name: order-paid
description: What it is for
timeout: 2h
steps:
  - id: shape
    action: transform
    if: event.data.amount > 100.0
    with:
      values: {total: "${{ event.data.amount * 2.0 }}", note: "Order ${{ event.data.id }}"}
    retry: {attempts: 5, delay: 10s, factor: 2, max_delay: 10m}
    timeout: 30s
    on_error: continue
  - id: again
    action: transform
    if: steps.shape.output.total > 300.0
    with: {values: "${{ steps.shape.output }}"}
on_failure:
  - {id: mend, action: transform, with: {values: "${{ failure.error }} ${{ steps.again.state }}"}}
"""


def test_a_definition_says_what_was_written() -> None:
    definition = parse(FULL)
    assert (definition.name, definition.description, definition.timeout) == (
        "order-paid",
        "What it is for",
        timedelta(hours=2),
    )
    first, second = definition.steps
    assert (first.id, first.action, first.on_error, first.timeout) == (
        "shape",
        "transform",
        "continue",
        timedelta(seconds=30),
    )
    assert first.retry == RetryPolicy(
        attempts=5, delay=timedelta(seconds=10), factor=2, max_delay=timedelta(minutes=10)
    )
    assert (second.retry, second.timeout, second.on_error) == (None, None, "fail")
    assert [step.id for step in definition.on_failure] == ["mend"]


def test_its_steps_are_ready_to_run() -> None:
    step = parse(FULL).steps[0]
    context = make_context(event={"data": {"amount": 120.0, "id": 7}}, steps={}, run={})
    assert step.action_class is Transform
    assert step.condition is not None
    assert step.condition.explain(context).value
    assert step.values.render(context) == {"values": {"total": 240.0, "note": "Order 7"}}
    assert step.condition is step.condition  # compiled once


def test_a_step_without_if_and_with_has_no_condition_and_no_values() -> None:
    definition = parse("name: x\nsteps: [{id: a, action: transform, with: {values: 1}}]")
    assert definition.steps[0].condition is None
    assert definition.steps[0].values.constant


def test_what_is_kept_is_the_definition_in_full() -> None:
    definition = parse("name: x\nsteps: [{id: a, action: transform, with: {values: 1}, timeout: 90s}]")
    kept = definition.to_json()
    assert kept == {
        "kind": "Workflow",
        "name": "x",
        "description": "",
        "concurrency": None,
        "timeout": None,
        "steps": [
            {
                "id": "a",
                "action": "transform",
                "needs": None,
                "if": None,
                "for_each": None,
                "parallel": None,
                "with": {"values": 1},
                "retry": None,
                "timeout": "1m30s",
                "on_error": "fail",
                "undo": None,
            }
        ],
        "on_failure": [],
    }
    assert Definition.from_json(kept) == definition
    assert Definition.from_json(parse(FULL).to_json()) == parse(FULL)


def test_json_is_a_definition_too() -> None:
    assert parse('{"name": "x", "steps": [{"id": "a", "action": "fail", "with": {"message": "no"}}]}').name == "x"


def test_a_step_is_switched_off_by_false() -> None:
    [step] = parse("name: x\nsteps: [{id: a, if: false, action: fail, with: {message: no}}]").steps
    assert step.condition is not None
    assert not step.condition.explain(make_context(event={})).value


def test_on_failure_sees_the_failure_and_all_steps_and_steps_do_not_see_it() -> None:
    parse(FULL)
    [problem] = problems("name: x\nsteps:\n- {id: a, action: fail, with: {message: '${{ failure.error }}'}}")
    assert problem.path == "steps[0].with.message"
    assert problem.message.startswith('unknown variable "failure"; known: event, run, steps')


def step(fields: str) -> str:
    """A workflow with one step, whose fields begin on line 3."""
    return f"name: x\nsteps:\n- {{id: a, action: transform, with: {{values: 1}}, {fields}}}"


STEP_FIELDS = "known: id, action, needs, if, for_each, parallel, with, retry, timeout, on_error, undo"
TRANSFORM = "name: x\nsteps:\n- id: a\n  action: transform\n  with:\n    values: {v}"


@pytest.mark.parametrize(
    ("text", "line", "path", "message"),
    [
        # the document
        ("", 1, "", "a workflow is one YAML document with the fields name and steps"),
        ("- a", 1, "", "a workflow is one YAML document"),
        ("name: x\n---\nname: y", 1, "", "a workflow is one YAML document"),
        ("name: x\nname: y\nsteps: []", 2, "", 'the key "name" stands here twice; the first is on line 1'),
        ("name: x\nsteps: [", 3, "", "not YAML: "),
        # the workflow
        ("steps: [{id: a, action: transform, with: {values: 1}}]", 1, "name", "this field is required"),
        ("name: x", 1, "steps", "this field is required"),
        ("name: x\nsteps: []", 2, "steps", "a workflow has 1 to 200 steps, this one has 0"),
        (step("").replace("name: x", "name: No Name"), 1, "name", '"No Name" is no name: small letters, digits'),
        (step("").replace("name: x", "kind: Channel\nname: x"), 1, "kind", "should be 'Workflow', not \"Channel\""),
        (step("") + "\ntimeout: soon", 4, "timeout", '"soon" is not a duration; write for example 30s, 15m, 2h'),
        (step("") + "\ntimeout: 0s", 4, "timeout", "must be longer than 0s"),
        (step("") + "\nstepz: 1", 4, "stepz", 'unknown field "stepz", did you mean "steps"? known: kind, name, desc'),
        (step("") + "\nconcurrency: {limit: 1}", 4, "concurrency.key", "this field is required"),
        (
            step("") + "\nconcurrency: {key: a, limit: 0}",
            4,
            "concurrency.limit",
            "should be greater than or equal to 1",
        ),
        (step("") + "\nconcurrency: {key: a, on_conflict: wait}", 4, "concurrency.on_conflict", ""),
        (step("") + "\nconcurrency: {key: '${{ event. }}'}", 4, "concurrency.key", ""),
        (step("") + "\nconcurrency: {key: '${{ steps.a.output }}'}", 4, "concurrency.key", 'unknown variable "steps"'),
        (step("needs: [b]"), 3, "steps[0].needs", 'unknown step "b"; known: a'),
        (step("needs: [a]"), 3, "steps[0].needs", "goes in a circle: a needs a"),
        (
            step("needs: [b]") + "\n- {id: b, action: transform, with: {values: 1}, needs: [a]}",
            3,
            "steps[0].needs",
            "goes in a circle: a needs b needs a",
        ),
        (
            step("") + "\n- {id: b, needs: [], action: transform, with: {values: '${{ steps.a.output }}'}}",
            4,
            "steps[1].with.values",
            'unknown earlier step "a"; known: none',
        ),
        (step("for_each: items"), 3, "steps[0].for_each", "is a list, or ${{ an expression that is one }}"),
        (step("for_each: '${{ nothing }}'"), 3, "steps[0].for_each", 'unknown variable "nothing"'),
        (step("for_each: '${{ item }}'"), 3, "steps[0].for_each", 'unknown variable "item"'),
        (step("if: item > 1"), 3, "steps[0].if", 'unknown variable "item"'),
        (step("parallel: 2"), 3, "steps[0].parallel", "bounds the items of for_each, and there is no for_each"),
        (step("for_each: [1], parallel: 0"), 3, "steps[0].parallel", "should be greater than or equal to 1"),
        (
            step("undo: {action: fial, with: {message: no}}"),
            3,
            "steps[0].undo.action",
            'unknown action "fial", did you mean "fail"?',
        ),
        (step("undo: {action: fail}"), 3, "steps[0].undo.with.message", "this field is required"),
        (
            step("undo: {action: fail, with: {message: '${{ item }}'}}"),
            3,
            "steps[0].undo.with.message",
            'unknown variable "item"',
        ),
        (
            step("") + "\non_failure: [{id: b, action: transform, with: {values: 1}, needs: [a]}]",
            4,
            "on_failure[0].needs",
            "steps under on_failure run in their order and cannot have needs",
        ),
        (
            "name: x\nsteps:\n- {id: a, action: approval, for_each: [1, 2]}",
            3,
            "steps[0].for_each",
            "an approval has one link and one answer, so it cannot loop",
        ),
        ("name: x\nsteps:\n- {id: a, action: delay}", 3, "steps[0].with", "say either how long"),
        (step("wiht: {}"), 3, "steps[0].wiht", f'unknown field "wiht", did you mean "with"? {STEP_FIELDS}'),
        (step("on_error: stop"), 3, "steps[0].on_error", "should be 'fail' or 'continue', not \"stop\""),
        (step("timeout: -5"), 3, "steps[0].timeout", "-5 is negative"),
        (step("retry: {attempts: 0}"), 3, "steps[0].retry.attempts", "should be greater than or equal to 1, not 0"),
        (
            step("retry: {tries: 3}"),
            3,
            "steps[0].retry.tries",
            'unknown field "tries"; known: attempts, delay, factor, max_delay',
        ),
        (step("retry: {delay: 1h, max_delay: 1m}"), 3, "steps[0].retry", "max_delay 1m is shorter than delay 1h"),
        # ids
        (
            "name: x\nsteps:\n- {id: a-b, action: fail, with: {message: m}}",
            3,
            "steps[0].id",
            '"a-b" is no id: a small letter',
        ),
        ("name: x\nsteps:\n- {id: in, action: fail, with: {message: m}}", 3, "steps[0].id", '"in" is no id'),
        ("name: x\nsteps:\n- {id: 1, action: fail, with: {message: m}}", 3, "steps[0].id", "should be text, not 1"),
        (
            step("") + "\n- {id: a, action: fail, with: {message: m}}",
            4,
            "steps[1].id",
            'the id "a" is taken by steps[0]',
        ),
        (
            step("") + "\non_failure:\n- {id: a, action: fail, with: {message: m}}",
            5,
            "on_failure[0].id",
            'the id "a" is taken by steps[0]',
        ),
        # actions and what they take
        (
            "name: x\nsteps:\n- id: a\n  action: database.upsrt",
            4,
            "steps[0].action",
            'unknown action "database.upsrt", did you mean "database.upsert"? known: approval, database.delete',
        ),
        (
            TRANSFORM.format(v=1) + "\n    value: 2",
            7,
            "steps[0].with.value",
            'unknown field "value", did you mean "values"?',
        ),
        ("name: x\nsteps:\n- id: a\n  action: transform", 3, "steps[0].with.values", "this field is required"),
        (
            "name: x\nsteps:\n- {id: a, action: fail, with: {message: [1]}}",
            3,
            "steps[0].with.message",
            "should be text, not [1]",
        ),
        (
            "name: x\nsteps:\n- {id: a, action: fail, with: no}",
            3,
            "steps[0].with",
            'should be a map of fields, not "no"',
        ),
        (
            "name: x\nsteps:\n- {id: a, action: fail, with: '${{ event }}'}",
            3,
            "steps[0].with",
            "should be a map of fields",
        ),
        # expressions
        (step("if: event.x =="), 3, "steps[0].if", "unexpected end (at column 11 of 'event.x ==')"),
        (step("if: '${{ true }}'"), 3, "steps[0].if", "write the expression alone here, without ${{ }}"),
        (
            step("if: evnt.x"),
            3,
            "steps[0].if",
            'unknown variable "evnt", did you mean "event"? known: event, run, steps',
        ),
        (step("if: 5"), 3, "steps[0].if", "should be text, not 5"),
        (
            TRANSFORM.format(v="{deep: [1, '${{ nope }}']}"),
            6,
            "steps[0].with.values.deep[1]",
            'unknown variable "nope"',
        ),
        (TRANSFORM.format(v="'${{ event.x '"), 6, "steps[0].with.values", "this ${{ is not closed by }}"),
        (
            TRANSFORM.format(v="{'${{ event.x }}': 1}"),
            6,
            "steps[0].with.values.${{ event.x }}",
            "a key cannot hold an expression",
        ),
        # what was before
        (step("if: steps.b.output"), 3, "steps[0].if", 'unknown earlier step "b"; known: none'),
        (step("if: steps.a.output"), 3, "steps[0].if", 'unknown earlier step "a"; known: none'),
        (
            step("")
            + "\n- {id: b, if: 'has(steps[\"first\"].output)', action: fail, with: {message: '${{ steps.a.output }}'}}",
            4,
            "steps[1].if",
            'unknown earlier step "first"; known: a',
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, path: str, message: str) -> None:
    [problem] = problems(text)
    assert (problem.line, problem.path) == (line, path)
    assert problem.message.startswith(message)


@pytest.mark.django_db
def test_a_workflow_that_is_not_there_cannot_be_started() -> None:
    [problem] = problems("name: x\nsteps:\n- {id: a, action: workflow.run, with: {workflow: nothing}}")
    assert str(problem) == 'line 3: steps[0].with.workflow: unknown workflow "nothing"; known: none'


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = problems(
        """\
name: x
steps:
  - id: a
    action: nothing
    wants: [b]
  - id: b
    if: steps.c.output ==
    action: fail
    with: {massage: hello}
    retry: {attempts: many}
  - id: b
    action: transform
    with: {values: ["${{ steps.c.output }}", "${{ steps.b.output }}", "${{ 1 + }}"]}
timeout: soon
"""
    )
    assert [(problem.line, problem.path) for problem in found] == [
        (4, "steps[0].action"),
        (5, "steps[0].wants"),
        (7, "steps[1].if"),
        (9, "steps[1].with.message"),
        (9, "steps[1].with.massage"),
        (10, "steps[1].retry.attempts"),
        (11, "steps[2].id"),
        (13, "steps[2].with.values[0]"),
        (13, "steps[2].with.values[2]"),
        (14, "timeout"),
    ]
    with pytest.raises(DefinitionError, match=r"line 9: steps\[1\]\.with\.message: this field is required"):
        parse("name: x\n" + "\n" * 7 + "steps: [{id: a, action: fail}, {id: b, action: fail}]")


def test_what_an_action_checks_itself_is_told_with_its_place() -> None:
    text = "name: x\nsteps:\n- id: a\n  action: database.upsert\n  with:\n    model: ops.Nothing\n    key: {service: x}"
    [problem] = problems(text)
    assert (problem.line, problem.path) == (6, "steps[0].with.model")
    assert problem.message == 'unknown model "ops.Nothing"; known: ops.Incident, ops.Order (settings.WORKFLOW_MODELS)'


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(DefinitionError) as error:
        parse(text)
    return error.value.problems


FIELDS = (
    "id action if with retry timeout on_error name steps on_failure values model key where to template collection value"
)
VALUES = "database.upsert notify record.put transform ops.Order order_id amount message channel:x recipient:y a b"
WORDS = st.sampled_from([*FIELDS.split(), *VALUES.split(), "${{ steps.a }}", "${{ event.x }}", "${{", "event.x == 1"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
STEPS = st.fixed_dictionaries(
    {"id": WORDS, "action": st.sampled_from(["database.upsert", "database.update", "notify", "record.patch", "x"])},
    optional={"if": JSON, "with": st.dictionaries(WORDS, JSON, max_size=5), "retry": JSON, "needs": JSON},
)


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS | JSON, max_size=4), rest=st.dictionaries(WORDS, JSON, max_size=2))
def test_whatever_is_written_is_taken_or_refused_in_words(steps: list[Any], rest: dict[str, Any], db: None) -> None:
    with suppress(DefinitionError):
        parse(write({**rest, "name": "x", "steps": steps}))
