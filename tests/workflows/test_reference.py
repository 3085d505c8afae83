"""What docs/reference/workflows.md says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from events.models import EventType
from notifications.models import Channel, Recipient, Template
from workflows.actions import actions
from workflows.definition import Concurrency, Definition, Step, Undo, parse
from workflows.models import Workflow

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "workflows.md").read_text()
OURS = ("workflows.actions.", "events.actions")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.django_db
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n")[0])
def test_an_example_is_right(example: str) -> None:
    for name in set(re.findall(r"type: (\w+\.\w+)", example)):
        EventType.objects.create(name=name)
    for template in re.findall(r"template: ([\w-]+)", example):
        Template.objects.create(name=template, text="…")
    for channel in set(re.findall(r"channel:([\w-]+)", example)):
        Channel.objects.create(name=channel, type="slack", settings={"url": "https://example.com"})
    for channel in set(re.findall(r"channel: ([\w-]+)", example)):
        Channel.objects.create(name=channel, type="sqs", settings={"queue": "https://sqs.eu-west-1.amazonaws.com/1/q"})
    Channel.objects.create(name="mail", type="email", default=True)
    Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"}, topics=["on-call", "second-line"])
    for workflow in re.findall(r"workflow: ([\w-]+)", example):
        Workflow.objects.create(name=workflow)
    parse(example if example.startswith("kind:") else f"name: example\nsteps:\n{example}")


def test_every_field_of_the_language_is_told_of() -> None:
    for name, field in [*Definition.model_fields.items(), *Step.model_fields.items()]:
        assert f"| `{field.alias or name}` |" in TEXT
    for name, field in [*Concurrency.model_fields.items(), *Undo.model_fields.items()]:
        assert f"`{field.alias or name}`" in TEXT


def test_every_action_and_its_fields_are_told_of() -> None:
    for name, cls in actions.items():
        if cls.__module__.startswith(OURS):
            assert f"`{name}`" in TEXT
            for field, info in cls.model_fields.items():
                assert f"`{info.alias or field}`" in TEXT, f"{name} takes {field}"


def test_there_are_examples_of_every_action() -> None:
    ours = {name for name, cls in actions.items() if cls.__module__.startswith(OURS)}
    assert ours <= set(re.findall(r"action: ([\w.]+)", "\n".join(EXAMPLES)))
