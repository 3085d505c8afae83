"""Getting started: four steps from an empty installation to a first notification, ticked when they are done.

The forms that the steps lead to are filled in with the example of docs/tutorial.md; whoever has something of their own
ticks the same steps with it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from events.models import ApiKey, Event, EventType, Source, Subscription
from notifications.models import Channel, Template
from project.models import Tally
from workflows.models import Workflow

HIDDEN: Final = "carillon_start_hidden"  # the cookie of a browser whose person does not want to see the steps
AND_BACK: Final = {"then": "start"}  # a form that was opened from here leads back (Configuration.response_add)

SCHEMA: Final = {
    "type": "object",
    "required": ["database", "error"],
    "properties": {"database": {"type": "string"}, "error": {"type": "string"}},
}
EXAMPLE: Final = {"database": "shop", "error": "disk full"}
WORKFLOW: Final = """\
name: backup-failed
description: Remember a failed backup and tell somebody
steps:
  - id: remember
    action: record.put
    with:
      collection: backups
      key: "${{ event.data.database }}"
      value: {state: failed, error: "${{ event.data.error }}", at: "${{ event.time }}"}
  - id: tell
    action: notify
    with: {to: ["channel:%(channel)s"], template: %(template)s}
"""


@dataclass(frozen=True)
class Task:
    """One form to fill in. Without a `url` something else has to be done first."""

    title: str
    done: bool
    url: str = ""


@dataclass(frozen=True)
class Step:
    title: str
    about: str
    tasks: Sequence[Task]

    @property
    def done(self) -> bool:
        return all(task.done for task in self.tasks)


@dataclass(frozen=True)
class Welcome:
    """The steps, and what sends the event of the last one."""

    steps: Sequence[Step]
    event: str  # as JSON, quoted for a shell
    events_url: str
    newest: Event | None

    @property
    def done(self) -> bool:
        return all(step.done for step in self.steps)

    @property
    def ready(self) -> bool:
        """Only the event is missing."""
        return all(step.done for step in self.steps[:-1])


def welcome(request: HttpRequest) -> Welcome | None:
    """For the overview: None when all is done, for whoever hid it, and for whoever may not do the steps."""
    if request.COOKIES.get(HIDDEN) or not request.user.has_perm("events.add_subscription"):
        return None
    if _arrived() and Subscription.objects.exists():
        return None  # the usual answer, without looking at the rest
    found = start(request)
    return None if found.done else found


def start(request: HttpRequest) -> Welcome:
    """The steps as they stand. A dozen queries, each for the first row of a small table or of an index."""
    source = Source.objects.order_by("-pk").first()
    channel = Channel.objects.filter(enabled=True).order_by("-pk").first()
    template = Template.objects.order_by("-pk").first()
    workflow = Workflow.objects.order_by("-pk").first()
    subscription = Subscription.objects.filter(enabled=True).order_by("-pk").first()
    newest = Event.objects.defer("data").first()
    kind = _type_to_send()
    steps = (
        Step(
            "Who sends, and what",
            "A source is a program that sends events; its API key proves that it is the source. An event type says "
            "what its events look like.",
            (
                Task("Add a source", source is not None, _add("events_source", name="backups", adapter="api")),
                Task("Issue its API key", _a_valid_key(), _issue_key(source)),
                Task(
                    "Add an event type",
                    kind is not None or EventType.objects.exists(),
                    _add(
                        "events_eventtype",
                        name="backup.failed",
                        description="A backup did not end well.",
                        schema=json.dumps(SCHEMA, indent=2),
                        example=json.dumps(EXAMPLE),
                    ),
                ),
            ),
        ),
        Step(
            "Whom to tell, and in what words",
            "A channel is a way to reach people: mail, chat, a webhook. A template is what the message says.",
            (
                Task("Add a channel", channel is not None, _add_channel(request)),
                Task(
                    "Add a template",
                    template is not None,
                    _add(
                        "notifications_template",
                        name="backup-failed",
                        subject="Backup of {{ event.data.database }} failed",
                        text="{{ event.data.error }}",
                    ),
                ),
            ),
        ),
        Step(
            "What to do, and when",
            "A workflow is a list of steps. A subscription says which events start it.",
            (
                Task("Add a workflow", workflow is not None, _add_workflow(channel, template)),
                Task("Add a subscription", subscription is not None, _add_subscription(kind, workflow)),
            ),
        ),
        Step(
            "Send an event",
            "With the API key of the first step, from a terminal. This page ticks itself.",
            (
                Task("An event came in", newest is not None, _page("events_event", newest)),
                Task("A message went out", _arrived(), reverse("admin:notifications_delivery_changelist")),
            ),
        ),
    )
    return Welcome(
        steps=steps,
        event=shlex.quote(json.dumps(_event(kind), ensure_ascii=False)),
        events_url=request.build_absolute_uri(reverse("events")),
        newest=newest,
    )


# --- what is there ---------------------------------------------------------------------------------------------------


def _arrived() -> bool:
    """Whether any delivery ever arrived: counted, for the deliveries themselves may be many, and none of them so."""
    return Tally.objects.filter(name="carillon_deliveries_total", labels__outcome="delivered").exists()


def _a_valid_key() -> bool:
    in_time = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return ApiKey.objects.filter(in_time, revoked_at=None, source__enabled=True).exists()


def _type_to_send() -> EventType | None:
    """A type that leads to a notification, with an example if there is one; else one that is heard of; else any."""
    kinds = EventType.objects.filter(retired=False).order_by("-pk")
    heard = Subscription.objects.filter(enabled=True)
    telling = heard.filter(workflow__versions__definition__steps__contains=[{"action": "notify"}])
    for subscriptions in (telling, heard):
        names = {name for types in subscriptions.values_list("types", flat=True) for name in types}
        known = kinds.filter(name__in=names)
        if found := known.filter(example__isnull=False).first() or known.first():
            return found
    return kinds.first()


def _event(kind: EventType | None) -> dict[str, Any]:
    if kind is None:
        return {"type": "backup.failed", "data": EXAMPLE}
    return {"type": kind.name, "data": kind.example if kind.example is not None else {}}


# --- where to do it --------------------------------------------------------------------------------------------------


def _add(model: str, **values: Any) -> str:
    """The form of a new row, filled in."""
    return f"{reverse(f'admin:{model}_add')}?{urlencode({**values, **AND_BACK})}"


def _page(model: str, row: Any) -> str:
    return reverse(f"admin:{model}_change", args=[row.pk]) if row else ""


def _issue_key(source: Source | None) -> str:
    if source is None:
        return ""
    page = reverse("admin:events_source_issue_key", args=[source.pk])
    return f"{page}?{urlencode({'name': 'getting started', **AND_BACK})}"


def _add_channel(request: HttpRequest) -> str:
    to = getattr(request.user, "email", "") or "you@example.com"
    settings: Mapping[str, str] = {"type": "email", "settings__to": to}
    return _add("notifications_channel", name="mail", description="Mail to whoever has to know.", **settings)


def _add_workflow(channel: Channel | None, template: Template | None) -> str:
    if channel is None or template is None:
        return ""
    return _add("workflows_workflow", definition=WORKFLOW % {"channel": channel.name, "template": template.name})


def _add_subscription(kind: EventType | None, workflow: Workflow | None) -> str:
    if kind is None or workflow is None:
        return ""
    return _add("events_subscription", name=workflow.name, types=kind.name, workflow=workflow.pk)
