"""The example pack loads as it is, and its payloads are what its schemas, filters and templates expect."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from events import scheduling
from events.catalogue import rules
from events.models import Event, EventType, Schedule, Subscription
from events.schemas import Validator
from examples.demo import STORIES, Story
from notifications.models import Template
from notifications.rendering import PARTS, in_language, render
from project.apply import Outcome, apply, read_files
from project.expressions import make_context

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _applied() -> None:
    assert {change.outcome for change in apply(read_files([Path("examples")]))} == {Outcome.CREATED}


def event_of(story: Story) -> dict[str, Any]:
    return {"id": "1", "type": story.type, "subject": story.subject, "source": "/local", "data": story.data}


def test_applying_it_again_changes_nothing() -> None:
    assert {change.outcome for change in apply(read_files([Path("examples")]))} == {Outcome.UNCHANGED}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.type)
def test_the_payload_passes_its_schema(story: Story) -> None:
    schema = EventType.objects.get(name=story.type).schemas.get().schema
    assert Validator(schema).faults(event_of(story)["data"], "data") == []


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.type)
def test_one_subscription_matches_and_the_others_say_why_not(story: Story) -> None:
    context = make_context(event=event_of(story))
    heard = rules().for_type(story.type)
    verdicts = {rule.name: rule.filter.explain(context).outcome for rule in heard if rule.filter}
    assert verdicts.pop(story.subscription) == "matched"
    assert set(verdicts.values()) == {"filtered"}


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.type)
def test_the_messages_say_what_happened(story: Story, language: str) -> None:
    [version] = Subscription.objects.get(name=story.subscription).workflow.versions.all()
    [template_name] = [step["with"]["template"] for step in version.definition["steps"] if step["action"] == "notify"]
    template = Template.objects.get(name=template_name)
    sources = {part: getattr(template, part) for part in PARTS}
    parts = render(template.name, in_language(sources, template.languages, language), PARTS, {"event": event_of(story)})
    assert set(parts) == set(PARTS)
    assert (
        parts["subject"] != render(template.name, sources, ["subject"], {"event": event_of(story)})["subject"]
        or language == "en"
    )
    assert "\n\n\n" not in parts["text"]


def test_an_order_without_its_optional_fields_can_be_told() -> None:
    template = Template.objects.get(name="order-paid")
    event = {"type": "order.paid", "id": "1", "data": {"order_id": "A-1", "amount": 120}}
    sources = {part: getattr(template, part) for part in PARTS}
    parts = render("order-paid", sources, PARTS, {"event": event})
    assert parts["text"] == "A customer paid 120 EUR\nfor the order A-1.\n"
    assert "<table" not in parts["html"]


def test_the_schedule_fires_what_its_subscription_hears_and_its_template_tells() -> None:
    monday = datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert Schedule.objects.get().times.upcoming(monday, 4)[-1] == datetime(2026, 11, 27, 9, tzinfo=UTC)
    Schedule.objects.update(due_at=monday)
    assert scheduling.fire_due() == {"schedules": 1}
    event = Event.objects.get()
    assert Subscription.objects.get(name="days").types == [event.type]
    template = Template.objects.get(name="day-began")
    sources = {part: getattr(template, part) for part in PARTS}
    parts = render(
        template.name, sources, PARTS, {"event": {**event.envelope(), "time": "2026-11-24T09:00:00Z", "missed": 0}}
    )
    assert parts["text"] == "Good morning: it is Tuesday, 09:00."
    parts = render(template.name, sources, PARTS, {"event": {**event.envelope(), "missed": 2}})
    assert parts["text"].endswith(", and 2 mornings were missed.")
