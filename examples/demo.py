"""Three stories told to a running Carillon from outside: the events go in by HTTP, and their traces come back."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Json = Any

PAYLOADS: Final = Path(__file__).parent / "payloads"
FINAL_RUNS: Final = {"succeeded", "failed", "cancelled"}
FINAL_DELIVERIES: Final = {"delivered", "failed", "skipped", "cancelled"}
LOOK_EVERY: Final = 0.2  # seconds
TIME_LIMIT: Final = 5.0  # seconds one request may take


@dataclass(frozen=True)
class Story:
    """An event to send, and the subscription that has to hear of it."""

    title: str
    type: str
    subject: str
    payload: str
    subscription: str


STORIES: Final = (
    Story(
        "A workflow run on GitHub failed",
        type="github.workflow_run",
        subject="octo-org/octo-repo",
        payload="github-workflow-run-failed.json",
        subscription="failed-workflow-runs",
    ),
    Story(
        "Alertmanager has a critical alert",
        type="alertmanager.alert",
        subject="checkout",
        payload="alertmanager-firing.json",
        subscription="critical-alerts",
    ),
    Story(
        "An order was paid",
        type="order.paid",
        subject="A-1001",
        payload="order-paid.json",
        subscription="paid-orders",
    ),
)


class NoAnswer(Exception):
    """Carillon cannot be reached, or refuses what it is asked; the message is for a person."""


@dataclass(frozen=True)
class Carillon:
    """A running Carillon, as anybody with an API key sees it."""

    url: str
    key: str

    def send(self, story: Story) -> Json:
        """Send the story's event; returns what was answered: {"uid", "id", …}."""
        data = json.loads((PAYLOADS / story.payload).read_text(encoding="utf-8"))
        return self._ask("POST", "/api/v1/events", {"type": story.type, "subject": story.subject, "data": data})

    def trace(self, uid: str) -> Json:
        return self._ask("GET", f"/api/v1/events/{uid}/trace")

    def follow(self, uid: str, *, seconds: float) -> Json:
        """The event's trace when nothing more will happen, or as far as it is after that time."""
        deadline = time.monotonic() + seconds
        while not ended(trace := self.trace(uid)) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
        return trace

    def _ask(self, method: str, path: str, body: Json = None) -> Json:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        return _json(request)


@dataclass(frozen=True)
class Inbox:
    """The local inbox of `make run`."""

    url: str

    def messages(self) -> list[Json]:
        """What it keeps, newest first."""
        found: list[Json] = _json(urllib.request.Request(f"{self.url.rstrip('/')}/messages"))
        return found


def ended(trace: Json) -> bool:
    """Nothing more will happen: the event was routed, its runs ended, and so did what they sent."""
    return (
        trace["routed_at"] is not None
        and all(run["state"] in FINAL_RUNS for run in trace["runs"])
        and all(delivery["state"] in FINAL_DELIVERIES for delivery in deliveries(trace))
    )


def deliveries(trace: Json) -> Iterator[Json]:
    for run in trace["runs"]:
        for step in run["steps"]:
            yield from step.get("deliveries") or ()


def shortcomings(story: Story, trace: Json) -> list[str]:
    """What should have happened and did not."""
    if trace["routed_at"] is None:
        return ["it was not routed: no worker took it"]
    run = next((run for run in trace["runs"] if run["subscription"] == story.subscription), None)
    if run is None:
        return [
            f"the subscription {story.subscription} did not start a workflow; are the examples applied as they are?"
        ]
    if run["state"] != "succeeded":
        return [f"the run of {run['workflow']} is {run['state']}{': ' + run['error'] if run.get('error') else ''}"]
    missing = []
    for kind, word in (("email", "mail"), ("slack", "chat")):
        of_kind = [delivery for delivery in deliveries(trace) if delivery["kind"] == kind]
        if not of_kind:
            missing.append(f"no {word} was sent")
        missing += [
            f"the {word} by {delivery['channel']} is {delivery['state']}{': ' + why if (why := _why(delivery)) else ''}"
            for delivery in of_kind
            if delivery["state"] != "delivered"
        ]
    return missing


def _why(delivery: Json) -> str:
    last = delivery["attempts"][-1]["response"] if delivery["attempts"] else ""
    return str(delivery["reason"] or last or "")


def _json(request: urllib.request.Request) -> Json:
    try:
        with urllib.request.urlopen(request, timeout=TIME_LIMIT) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise NoAnswer(f"{request.full_url} answered {error.code}: {_detail(error.read())}") from error
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{request.full_url} does not answer: {getattr(error, 'reason', error)}") from error


def _detail(body: bytes) -> str:
    """What a problem (RFC 9457) says; any other body as it is."""
    try:
        problem = json.loads(body)
        return str(problem["detail"])
    except (ValueError, TypeError, KeyError):
        return body.decode(errors="replace")[:300]
