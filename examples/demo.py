"""Three stories told to a running Carillon from outside: webhooks and an event go in, their traces come back."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

Json = Any

PAYLOADS: Final = Path(__file__).parent / "payloads"
FINAL_RUNS: Final = {"succeeded", "failed", "cancelled"}
FINAL_DELIVERIES: Final = {"delivered", "failed", "skipped", "cancelled"}
LOOK_EVERY: Final = 0.2  # seconds
TIME_LIMIT: Final = 5.0  # seconds one request may take


Prove = Callable[[bytes, str], dict[str, str]]


def as_github(body: bytes, secret: str) -> dict[str, str]:
    """The headers of GitHub's calls, signed (https://docs.github.com/webhooks/webhook-events-and-payloads)."""
    return {
        "X-GitHub-Event": "workflow_run",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }


def as_bearer(body: bytes, secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@dataclass(frozen=True)
class Hook:
    """Where a vendor calls, how it proves who it is, and the variable that holds the secret."""

    source: str
    prove: Prove
    secret: str


@dataclass(frozen=True)
class Story:
    """What happens, and the subscription that has to hear of it. Without a hook it is an event of the API."""

    title: str
    type: str
    subject: str
    payload: str
    subscription: str
    hook: Hook | None = None

    @property
    def data(self) -> Json:
        """What is sent; an alert began just now, for one that was told before is nothing new."""
        data = json.loads((PAYLOADS / self.payload).read_text(encoding="utf-8"))
        for alert in data.get("alerts", ()):
            alert["startsAt"] = datetime.now(UTC).isoformat()
        return data


STORIES: Final = (
    Story(
        "A workflow run on GitHub failed",
        type="github.workflow_run",
        subject="octo-org/octo-repo",
        payload="github-workflow-run-failed.json",
        subscription="failed-workflow-runs",
        hook=Hook("github", as_github, "GITHUB_WEBHOOK_SECRET"),
    ),
    Story(
        "Alertmanager has a critical alert",
        type="alertmanager.alert",
        subject='{}:{alertname="HighErrorRate", service="checkout"}',
        payload="alertmanager-firing.json",
        subscription="critical-alerts",
        hook=Hook("alertmanager", as_bearer, "ALERTMANAGER_TOKEN"),
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
    """A running Carillon, as anybody sees it who has an API key and the secrets of its webhooks."""

    url: str
    key: str
    secrets: Mapping[str, str]

    def send(self, story: Story) -> Json:
        """Send the story's event, or have its vendor call; returns what was answered: {"uid", "id", …}."""
        if story.hook is not None:
            return self._call(story.hook, story.data)
        return self._ask("POST", "/api/v1/events", {"type": story.type, "subject": story.subject, "data": story.data})

    def trace(self, uid: str) -> Json:
        return self._ask("GET", f"/api/v1/events/{uid}/trace")

    def follow(self, uid: str, *, seconds: float) -> Json:
        """The event's trace when nothing more will happen, or as far as it is after that time."""
        deadline = time.monotonic() + seconds
        while not ended(trace := self.trace(uid)) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
        return trace

    def _call(self, hook: Hook, data: Json) -> Json:
        if not self.secrets.get(hook.secret):
            raise NoAnswer(f"{hook.secret} is not set, and /hooks/{hook.source} believes nobody without it")
        body = json.dumps(data).encode()
        headers = {"Content-Type": "application/json", **hook.prove(body, self.secrets[hook.secret])}
        return _json(urllib.request.Request(f"{self.url}/hooks/{hook.source}", body, headers, method="POST"))

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
