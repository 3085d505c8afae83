"""The doctor finds what is wrong, and says what to do."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from events.models import Event, EventType, Source, Subscription
from notifications.models import Channel, Recipient, Template
from project.doctor import Finding, examine
from project.models import Heartbeat
from workflows.models import Workflow, WorkflowVersion
from workflows.publishing import publish

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _everything_is_well(settings: Settings, redis_url: str) -> None:
    settings.DEBUG = True
    queues = sorted({str(route) for route in current_app.conf.task_routes.values()})
    Heartbeat.beat("worker@here", queues=queues)
    Heartbeat.beat("clock")
    Channel.objects.create(name="mail", type="email", default=True)
    Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"})
    EventType.objects.create(name="order.paid")
    publish("{name: w, steps: [{id: a, action: fail, with: {message: x}}]}")
    Subscription.objects.create(name="s", types=["order.paid"], workflow=Workflow.objects.get())


def wrong() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine() if finding.wrong}


def test_nothing_is_wrong_with_a_stack_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert wrong() == {}
    call_command("doctor")
    told = capsys.readouterr().out
    assert told.endswith("All is well.\n")
    assert "ok     configuration" in told


def hold(channel: str, **fields: Any) -> None:
    Channel.objects.filter(name=channel).update(**fields)


BREAKAGES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a clock that stopped": (
        lambda: Heartbeat.objects.filter(process="clock").delete(),
        "clock",
        "has not ticked",
    ),
    "workers that are gone": (
        lambda: Heartbeat.objects.filter(process="worker@here").update(at=timezone.now() - timedelta(minutes=1)),
        "workers",
        "nobody has worked on these queues",
    ),
    "an event nobody routes": (
        lambda: Event.objects.create(
            source="/s",
            type="order.paid",
            event_id="1",
            time=timezone.now(),
            due_at=timezone.now() - timedelta(minutes=2),
        ),
        "events.route",
        "nobody took 1 due rows for more than a minute, the oldest for 12",
    ),
    "a variable that is not set": (
        lambda: Channel.objects.create(name="chat", type="slack", settings={"url": "${NOT_SET_ANYWHERE}"}),
        "channel chat",
        "${NOT_SET_ANYWHERE} is not set",
    ),
    "a secret that is not set": (
        lambda: Source.objects.create(name="forge", adapter="github", secret="${NOT_SET_ANYWHERE}"),
        "source forge",
        "it can verify nothing: ${NOT_SET_ANYWHERE} is not set",
    ),
    "a source without its secret": (
        lambda: Source.objects.create(name="forge", adapter="github"),
        "Source forge",
        "secret: The adapter github needs it",
    ),
    "settings that are wrong": (
        lambda: hold("mail", settings={"from": "x"}),
        "Channel mail",
        "from: unknown setting; known: from_email",
    ),
    "a channel that is held back": (
        lambda: hold("mail", hold_until=timezone.now() + timedelta(minutes=5), hold_reason="421 busy"),
        "channel mail",
        "421 busy",
    ),
    "a channel that switched itself off": (
        lambda: hold("mail", enabled=False, hold_reason="switched off after failing for 3d: gone"),
        "channel mail",
        "switched off after failing for 3d: gone",
    ),
    "addresses that no channel carries": (
        lambda: hold("mail", default=False),
        "email addresses",
        "no enabled channel of the type email is the default",
    ),
    "a subscription to a type that is gone": (
        lambda: EventType.objects.all().delete(),
        "Subscription s",
        'types: unknown event type "order.paid"',
    ),
    "a filter of another release": (
        lambda: Subscription.objects.update(filter="nonsense("),
        "Subscription s",
        "filter: line 1",
    ),
    "a workflow whose action is gone": (
        lambda: WorkflowVersion.objects.update(source="{name: w, steps: [{id: a, action: gone}]}"),
        "Workflow w",
        'steps[0].action: unknown action "gone"',
    ),
    "a template that cannot be read": (
        lambda: Template.objects.create(name="t", text="{{ x"),
        "Template t",
        "text: ",
    ),
}


@pytest.mark.parametrize(("spoil", "name", "told"), BREAKAGES.values(), ids=BREAKAGES)
def test_it_finds(spoil: Callable[[], Any], name: str, told: str) -> None:
    spoil()
    found = wrong()
    assert name in found, found
    assert told in found[name].wrong
    assert found[name].remedy


def test_it_finds_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(current_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    assert "broker" in wrong()


def test_a_disabled_channel_is_told_but_not_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    Channel.objects.create(name="old", type="email", enabled=False)
    call_command("doctor")
    assert "ok     channel old" in capsys.readouterr().out


def test_outside_development_it_checks_the_settings_for_deployment(settings: Settings) -> None:
    settings.DEBUG = False
    assert "(security.W" in wrong()["settings"].wrong


def test_the_command_fails_with_the_remedy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Heartbeat.objects.filter(process="clock").delete()
    with pytest.raises(CommandError, match=r"^Wrong: 1 of \d+\.$"):
        call_command("doctor")
    told = capsys.readouterr().out
    assert "WRONG  clock" in told
    assert "→ Start `manage.py clock`" in told
    assert max(map(len, told.splitlines())) <= 80
