"""The reference job: an order is paid; a row, a record, a signed webhook and a mail follow."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
import requests
from django.db import transaction

from events.models import ApiKey, Event, EventType, Scope, Source, Subscription
from examples.ops.models import Order
from notifications.models import Attempt, Channel, Delivery, DeliveryState, Recipient, Template
from tests.live import Live, wait_until
from tests.sinks import HttpSink, SmtpSink
from workflows.models import Record, Run
from workflows.publishing import publish

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK = "/hook"

WORKFLOW = """
name: order-paid
steps:
  - id: record
    action: database.upsert
    with:
      model: ops.Order
      key: {order_id: "${{ event.data.order_id }}"}
      values: {amount: "${{ event.data.amount }}", customer: "${{ event.data.customer }}"}
  - id: count
    action: record.put
    with: {collection: effects, key: "${{ event.id }}", value: "${{ event.data.amount }}"}
  - id: tell
    action: notify
    with: {to: TARGETS, template: order-paid}
"""


@dataclass
class Job:
    """A configured Carillon with a producer that goes on until its events are accepted, as producers should."""

    live: Live
    hooks: HttpSink
    mails: SmtpSink
    key: str
    accepted: set[str] = field(default_factory=set)
    refusals: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0

    @classmethod
    def configure(cls, live: Live, hooks: HttpSink, mails: SmtpSink, *, mail: bool = True) -> Job:
        """Call it before the processes start: they learn the mail server's address from the environment."""
        live.environment.update(EMAIL_URL=mails.url)
        source = Source.objects.create(name="shop")
        _, key = ApiKey.issue(source, "flow", [Scope.EVENTS_WRITE, Scope.EVENTS_READ])
        kind = EventType.objects.create(name="order.paid")
        with transaction.atomic():
            kind.add_schema({"type": "object", "required": ["order_id", "amount"]})
        soon = ["0s", *["1s"] * 20]
        hook = {"url": hooks.url(HOOK), "secret": SECRET}
        Channel.objects.create(
            name="hook", type="webhook", settings=hook, retry_schedule=soon, timeout=3, max_in_flight=200
        )
        Channel.objects.create(
            name="mail",
            type="email",
            settings={"from_email": "Shop <shop@example.com>"},
            default=True,
            retry_schedule=soon,
            timeout=5,
        )
        Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"})
        Template.objects.create(
            name="order-paid",
            subject="Order {{ event.data.order_id }} paid",
            text="{{ event.data.customer }} paid {{ event.data.amount }}.",
        )
        targets = "[channel:hook, recipient:ada]" if mail else "[channel:hook]"
        version, _ = publish(WORKFLOW.replace("TARGETS", targets))
        Subscription.objects.create(
            name="paid-orders", types=["order.paid"], filter="event.data.amount > 100.0", workflow=version.workflow
        )
        return cls(live, hooks, mails, key)

    def post(self, body: Any, *, session: Any = requests, timeout: float = 30) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer: requests.Response = session.post(
            f"{self.live.url}/api/v1/events", json=body, headers=headers, timeout=timeout
        )
        return answer

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        return requests.get(f"{self.live.url}/api/v1/events/{path}", headers=headers, timeout=30).json()

    def send(self, name: str, *, amount: float = 120.5, session: Any = requests) -> None:
        """Send until it is accepted."""
        while True:
            began = time.monotonic()
            try:
                answer = self.post(order(name, amount), session=session, timeout=5)
            except requests.RequestException:
                self.refusals[0] += 1
            else:
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status_code in (200, 202):
                    self.accepted.add(name)
                    return
                assert answer.status_code in (429, 503), answer.text
                assert int(answer.headers["Retry-After"]) > 0
                self.refusals[answer.status_code] += 1
            time.sleep(0.1)

    def settled(self) -> bool:
        """Whether nothing is due any more."""
        return not any(model.objects.filter(due_at__isnull=False).exists() for model in (Event, Run, Delivery))

    def wait_settled(self, seconds: float = 30) -> None:
        wait_until(self.settled, seconds=seconds, what="the end of all work")

    def check(self, *, mail: bool = False) -> int:
        """The invariant; returns how many calls reached the far side without an attempt to tell of them."""
        assert set(Event.objects.values_list("event_id", flat=True)) == self.accepted
        assert not Event.objects.filter(routed_at=None).exists()
        assert set(Run.objects.values_list("state", flat=True)) == {"succeeded"}
        assert Run.objects.count() == len(self.accepted)
        assert set(Order.objects.values_list("order_id", flat=True)) == self.accepted
        # A record counts how often it was put: the effects in the database were made exactly once.
        assert set(Record.objects.values_list("key", "version")) == {(name, 1) for name in self.accepted}
        assert Delivery.objects.count() == len(self.accepted) * (2 if mail else 1)
        assert set(Delivery.objects.values_list("state", flat=True)) == {DeliveryState.DELIVERED}
        assert Attempt.objects.filter(outcome="delivered").count() == Delivery.objects.count()
        told = Counter(orjson.loads(call.body)["data"]["data"]["order_id"] for call in self.hooks.to(HOOK))
        assert set(told) == self.accepted
        uids = {str(uid) for uid in Delivery.objects.filter(kind="webhook").values_list("uid", flat=True)}
        assert {call.headers["webhook-id"] for call in self.hooks.to(HOOK)} == uids
        return max(0, told.total() - Attempt.objects.filter(delivery__kind="webhook").count())


def order(name: str, amount: float = 120.5) -> dict[str, Any]:
    return {
        "type": "order.paid",
        "id": name,
        "subject": name,
        "data": {"order_id": name, "amount": amount, "customer": "Ada"},
    }


class Load:
    """Producers that send one event after the other until they are stopped: `with Load(job): …`."""

    def __init__(self, job: Job, *, producers: int = 4, pause: float = 0.02) -> None:
        self._job, self._pause = job, pause
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(producers)]

    def _run(self) -> None:
        try:
            with requests.Session() as session:
                while not self._stop.is_set():
                    self._job.send(f"order-{next(self._numbers)}", session=session)
                    time.sleep(self._pause)
        except BaseException as error:
            self._failed.append(error)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]
