"""The reference job: an order is paid; a row, records, signed webhooks and a mail follow, a request and a timer beside.

What it does (WORKFLOW), and what has to come of every accepted order (EFFECTS), stand here and nowhere else: whoever
adds a step to the one adds its effect to the other, and `make chaos` holds it against every fault.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import orjson
import requests
from django.db import transaction

from events.models import ApiKey, Event, EventType, Source, Subscription
from examples.ops.models import Order
from notifications.delivery import LEASE_MARGIN
from notifications.models import Attempt, Channel, Delivery, DeliveryState, Outcome, Recipient, Template
from project.pump import BEGIN_WITHIN
from project.scopes import Scope
from tests.live import Live, wait_until
from tests.sinks import HttpSink, SmtpSink
from workflows.models import Record, Run, RunState, StepRun, StepState
from workflows.publishing import publish

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK: Final = "/hook"  # the channel `hook`: always well
OTHER: Final = "/other"  # the channel `other`: may hang, and may be flooded
CALL: Final = "/call"  # where the workflow's own request goes
PATHS: Final = {"channel:hook": HOOK, "channel:other": OTHER}
OTHER_AT_ONCE: Final = 8
WEBHOOK_TIMEOUT: Final = 5
FILTERED: Final = 50.0  # an amount that no workflow hears of

WORKFLOW: Final = """
name: order-paid
steps:
  - id: record
    action: database.upsert
    with:
      model: ops.Order
      key: {order_id: "${{ event.data.order_id }}"}
      values: {amount: "${{ event.data.amount }}", customer: "${{ event.data.customer }}"}
  - id: count
    needs: [record]
    action: record.put
    with: {collection: effects, key: "${{ event.id }}", value: "${{ event.data.amount }}"}
  - id: tell
    needs: [count]
    action: notify
    with: {to: "${{ event.data.tell }}", template: order-paid}
  - id: lines
    needs: [record]
    for_each: [left, right]
    action: record.put
    with: {collection: lines, key: "${{ event.id }}/${{ item }}", value: "${{ index }}"}
  - id: call
    needs: [record]
    action: http.request
    with: {method: POST, url: "CALL", body: {order: "${{ event.id }}"}}
    timeout: 5s
    retry: {attempts: 40, delay: 1s, factor: 1}
  - id: nap
    needs: [record]
    action: delay
    with: {for: 1s}
  - id: after
    needs: [nap, call, lines]
    action: record.put
    with: {collection: afterwards, key: "${{ event.id }}", value: "${{ steps.call.output.status }}"}
"""
STEPS: Final = 8  # an item of a loop is one


def order(name: str, amount: float = 120.5, tell: Sequence[str] = ("channel:hook",)) -> dict[str, Any]:
    """An event to send. `tell` is who shall hear of it: `channel:hook`, `channel:other`, `recipient:ada` (a mail)."""
    return {
        "type": "order.paid",
        "id": name,
        "subject": name,
        "data": {"order_id": name, "amount": amount, "customer": "Ada", "tell": list(tell)},
    }


@dataclass(frozen=True)
class Sent:
    """An order that was accepted: the answer came at `at`, while the job's `round` was this one."""

    name: str
    uid: UUID
    told: int  # notifications that it has to bring
    hook: bool  # one of them on the channel that is always well
    matched: bool
    at: float
    round: int


# --- what has to come of an order ------------------------------------------------------------------------------------


class Facts:
    """What the database and the far side know, by the orders' names."""

    def __init__(self, job: Job) -> None:
        job.hear()
        self.told, self.called = job.told, job.called

    @cached_property
    def events(self) -> dict[UUID, str]:
        return dict(Event.objects.values_list("uid", "event_id"))

    @cached_property
    def steps(self) -> dict[UUID, str]:
        return {uid: self.name(origin) for uid, origin in StepRun.objects.values_list("uid", "run__origin")}

    @cached_property
    def deliveries(self) -> dict[UUID, str]:
        rows = Delivery.objects.values_list("uid", "origin")
        return {uid: self.steps.get(origin, str(origin)) if origin else "nothing" for uid, origin in rows}

    def name(self, origin: UUID | None) -> str:
        """The order whose event this is; what nobody sent goes by its own uid."""
        return self.events.get(origin, str(origin)) if origin else "nothing"


@dataclass(frozen=True)
class Effect:
    """What has to come of every accepted order, exactly `wanted` times; `found` counts it by the orders' names."""

    name: str
    wanted: Callable[[Sent], int]
    found: Callable[[Facts], Mapping[str, int]]


def _stored(facts: Facts) -> Mapping[str, int]:
    return Counter(Event.objects.filter(routed_at__isnull=False).values_list("event_id", flat=True))


def _runs(facts: Facts) -> Mapping[str, int]:
    origins = Run.objects.filter(state=RunState.SUCCEEDED).values_list("origin", flat=True)
    return Counter(facts.name(origin) for origin in origins)


def _steps(facts: Facts) -> Mapping[str, int]:
    origins = StepRun.objects.filter(state=StepState.SUCCEEDED).values_list("run__origin", flat=True)
    return Counter(facts.name(origin) for origin in origins)


def _rows(facts: Facts) -> Mapping[str, int]:
    return Counter(Order.objects.values_list("order_id", flat=True))


def _records(facts: Facts) -> Mapping[str, int]:
    # A record counts how often it was put, so it tells what an upserted row cannot: that it was done twice.
    return dict(Record.objects.filter(collection="effects").values_list("key", "version"))


def _afterwards(facts: Facts) -> Mapping[str, int]:
    return dict(Record.objects.filter(collection="afterwards").values_list("key", "version"))


def _lines(facts: Facts) -> Mapping[str, int]:
    found = Counter[str]()
    for key, version in Record.objects.filter(collection="lines").values_list("key", "version"):
        found[key.partition("/")[0]] += version
    return found


def _called(facts: Facts) -> Mapping[str, int]:
    return {name: len(keys) for name, keys in facts.called.items()}


def _deliveries(facts: Facts) -> Mapping[str, int]:
    uids = Delivery.objects.filter(state=DeliveryState.DELIVERED).values_list("uid", flat=True)
    return Counter(facts.deliveries[uid] for uid in uids)


def _attempts(facts: Facts) -> Mapping[str, int]:
    # Two may: whoever lost its lease says truly what it did, and so does its successor.
    uids = set(Attempt.objects.filter(outcome=Outcome.DELIVERED).values_list("delivery_id", flat=True))
    return Counter(facts.deliveries[uid] for uid in uids)


def _told(facts: Facts) -> Mapping[str, int]:
    uids = {str(uid) for uid in facts.deliveries}
    return {name: sum(key in uids for key in keys) for name, keys in facts.told.items()}


def _strangers(facts: Facts) -> Mapping[str, int]:
    uids = {str(uid) for uid in facts.deliveries}
    return {name: sum(key not in uids for key in keys) for name, keys in facts.told.items()}


def _hurried(facts: Facts) -> Mapping[str, int]:
    # An attempt after one that was delivered is right only where that one's lease had run out before it was recorded.
    lease = WEBHOOK_TIMEOUT + LEASE_MARGIN - BEGIN_WITHIN
    rows = Attempt.objects.filter(delivery__attempts__gt=1).order_by("delivery", "number")
    found = Counter[str]()
    for before, after in pairwise(rows.values_list("delivery_id", "outcome", "at")):
        if before[0] == after[0] and before[1] == Outcome.DELIVERED and (after[2] - before[2]).total_seconds() < lease:
            found[facts.deliveries[before[0]]] += 1
    return found


def _one_if_matched(sent: Sent) -> int:
    return int(sent.matched)


def _all_told(sent: Sent) -> int:
    return sent.told


def _never(sent: Sent) -> int:
    return 0


EFFECTS: Final = (
    Effect("the event is stored and routed", lambda sent: 1, _stored),
    Effect("a run succeeded", _one_if_matched, _runs),
    Effect("its steps succeeded", lambda sent: STEPS * sent.matched, _steps),
    Effect("the row is there", _one_if_matched, _rows),
    Effect("the record was put", _one_if_matched, _records),
    Effect("each item was done", lambda sent: 2 * sent.matched, _lines),
    Effect("the far side got the request, under one key", _one_if_matched, _called),
    Effect("what follows the timer and the request was done", _one_if_matched, _afterwards),
    Effect("notifications are delivered", _all_told, _deliveries),
    Effect("an attempt tells of the delivery", _all_told, _attempts),
    Effect("the far side got the notifications", _all_told, _told),
    Effect("the far side got a notification that nobody stored", _never, _strangers),
    Effect("sent again after it was delivered", _never, _hurried),
)


@dataclass(frozen=True)
class Wrong:
    """An effect that was not what it had to be; `sent` is missing where nobody had sent such an order."""

    effect: str
    name: str
    wanted: int
    found: int
    sent: Sent | None

    @property
    def lost(self) -> bool:
        return self.found < self.wanted

    def __str__(self) -> str:
        event = f"event {self.sent.uid}" if self.sent else "never accepted"
        return f"{self.effect}: {self.found} instead of {self.wanted} for {self.name} ({event})"


# --- the job ---------------------------------------------------------------------------------------------------------


@dataclass
class Job:
    """A configured Carillon with a producer that goes on until its events are accepted, as producers should."""

    live: Live
    hooks: HttpSink
    mails: SmtpSink
    key: str
    accepted: dict[str, Sent] = field(default_factory=dict)
    rounds: defaultdict[int, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    round: int = 0  # counts the faults of `make chaos`
    refusals: Counter[int] = field(default_factory=Counter)  # by status; 0: no answer
    slowest: float = 0.0
    told: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by order, by uid
    called: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # likewise, by key
    hooked_at: dict[str, float] = field(default_factory=dict)
    _heard: int = 0
    _read: int = 0

    @classmethod
    def configure(cls, live: Live, hooks: HttpSink, mails: SmtpSink) -> Job:
        """Call it before the processes start: they learn the mail server's address from the environment."""
        live.environment.update(EMAIL_URL=mails.url)
        source = Source.objects.create(name="shop")
        _, key = ApiKey.issue(source, "flow", [Scope.EVENTS_WRITE, Scope.EVENTS_READ])
        kind = EventType.objects.create(name="order.paid")
        with transaction.atomic():
            kind.add_schema({"type": "object", "required": ["order_id", "amount"]})
        soon = ["0s", *["1s"] * 40]
        for name, path, at_once in (("hook", HOOK, 50), ("other", OTHER, OTHER_AT_ONCE)):
            Channel.objects.create(
                name=name,
                type="webhook",
                settings={"url": hooks.url(path), "secret": SECRET},
                retry_schedule=soon,
                timeout=WEBHOOK_TIMEOUT,
                max_in_flight=at_once,
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
        version, _ = publish(WORKFLOW.replace("CALL", hooks.url(CALL)))
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

    def send(self, *orders: dict[str, Any], session: Any = requests) -> None:
        """Send until it is accepted, several as a batch."""
        while True:
            began = time.monotonic()
            try:
                answer = self.post(orders[0] if len(orders) == 1 else list(orders), session=session, timeout=10)
            except requests.RequestException:
                self.refusals[0] += 1
            else:
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status_code in (200, 202):
                    self._accept(orders, answer.json())
                    return
                assert answer.status_code in (429, 503), answer.text
                assert answer.headers["Content-Type"] == "application/problem+json", answer.text
                assert int(answer.headers["Retry-After"]) > 0
                self.refusals[answer.status_code] += 1
            time.sleep(0.1)

    def _accept(self, orders: Sequence[dict[str, Any]], answer: Any) -> None:
        now, answers = time.time(), answer.get("events", [answer])
        for event, told in zip(orders, answers, strict=True):
            data = event["data"]
            matched = data["amount"] > 100
            sent = Sent(
                name=event["id"],
                uid=UUID(told["uid"]),
                told=len(data["tell"]) if matched else 0,
                hook=matched and "channel:hook" in data["tell"],
                matched=matched,
                at=now,
                round=self.round,
            )
            self.accepted[sent.name] = sent
            self.rounds[sent.round].append(sent)

    # --- the far side ---

    def hear(self) -> None:
        """Take in what the far side has said yes to since the last time."""
        calls = self.hooks.requests[self._heard :]
        self._heard += len(calls)
        for call in calls:
            if call.status == 200 and call.path == CALL:
                self.called[orjson.loads(call.body)["order"]][call.headers["idempotency-key"]] += 1
            if call.status == 200 and call.path in PATHS.values():
                name = orjson.loads(call.body)["data"]["data"]["order_id"]
                self.told[name][call.headers["webhook-id"]] += 1
                if call.path == HOOK:
                    self.hooked_at.setdefault(name, call.at)
        mails = self.mails.mails[self._read :]
        self._read += len(mails)
        for mail in mails:
            _, name, _ = str(mail.message["Subject"]).split()
            self.told[name][str(mail.message["Message-ID"]).strip("<>").partition("@")[0]] += 1

    def has_heard(self, name: str) -> bool:
        """Whether the far side has been told of the order, and called for it."""
        self.hear()
        return bool(self.told.get(name)) and bool(self.called.get(name))

    def repeats(self) -> Counter[int]:
        """How often the far side got a notification or request that it had said yes to, by the orders' rounds."""
        found = Counter[int]()
        for name, keys in [*self.told.items(), *self.called.items()]:
            if sent := self.accepted.get(name):
                found[sent.round] += keys.total() - len(keys)
        return found

    # --- its end ---

    def unfinished(self, orders: Sequence[Sent]) -> list[Sent]:
        """Those of these orders, all of one time, that somebody still has to do something for."""
        self.hear()
        if not orders:
            return []
        busy = set[UUID](_busy(min(sent.uid for sent in orders), max(sent.uid for sent in orders)))
        return [sent for sent in orders if sent.uid in busy or len(self.told.get(sent.name, ())) < sent.told]

    def settled(self) -> bool:
        """Whether nothing is due any more."""
        waiting = (model.objects.filter(due_at__isnull=False).exists() for model in (Event, StepRun, Delivery))
        return not any(waiting) and not _going().exists()

    def wait_settled(self, seconds: float = 30) -> None:
        wait_until(self.settled, seconds=seconds, what="the end of all work")

    def wrongs(self) -> Iterator[Wrong]:
        """The invariant: every accepted order has each of its effects, and nothing has one too many."""
        facts = Facts(self)
        for effect in EFFECTS:
            found = effect.found(facts)
            for name in self.accepted.keys() | found.keys():
                sent = self.accepted.get(name)
                wanted = effect.wanted(sent) if sent else 0
                if found.get(name, 0) != wanted:
                    yield Wrong(effect.name, name, wanted, found.get(name, 0), sent)

    def check(self) -> int:
        """AssertionError when the invariant does not hold; returns how many notifications were repeated."""
        wrongs = list(self.wrongs())
        assert not wrongs, "\n".join(map(str, wrongs[:20]))
        return self.repeats().total()


def effects_of(sent: Sent) -> int:
    """How many effects are checked for it."""
    return sum(effect.wanted(sent) for effect in EFFECTS)


def _going() -> Any:
    return Run.objects.filter(state__in=(RunState.RUNNING, RunState.WAITING))


def _busy(first: UUID, last: UUID) -> Iterator[UUID]:
    """The events from the first to the last that something is still to be done for. Uids sort by their time."""
    between = (first, last)
    yield from Event.objects.filter(due_at__isnull=False, uid__range=between).values_list("uid", flat=True)
    runs = _going().filter(origin__range=between)
    yield from (uid for uid in runs.values_list("origin", flat=True) if uid)
    due = Delivery.objects.filter(due_at__isnull=False, origin__isnull=False).values_list("origin", flat=True)
    steps = StepRun.objects.filter(uid__in=[uid for uid in due if uid], run__origin__range=between)
    yield from (uid for uid in steps.values_list("run__origin", flat=True) if uid)


# --- the load --------------------------------------------------------------------------------------------------------


class Load:
    """Producers that send one event after the other until they are stopped: `with Load(job): …`.

    Of 20 events one is not heard by any workflow, two tell the other channel as well, and one a person by mail.
    """

    def __init__(self, job: Job, *, producers: int = 4, pause: float = 0.05) -> None:
        self._job, self._pause = job, pause
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._bursts: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
        self._failed: list[BaseException] = []
        works = [self._produce] * producers + [self._burst]
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in works]

    def burst(self, count: int, tell: Sequence[str] = ("channel:hook",)) -> None:
        """Have so many sent as a batch, besides the others; returns at once."""
        self._bursts.put([order(f"burst-{next(self._numbers)}", tell=tell) for _ in range(count)])

    def check(self) -> None:
        """Raise what a producer died of."""
        if self._failed:
            raise self._failed[0]

    def _run(self, work: Callable[[requests.Session], None]) -> None:
        try:
            with requests.Session() as session:
                while not self._stop.is_set():
                    work(session)
        except BaseException as error:
            self._failed.append(error)

    def _produce(self, session: requests.Session) -> None:
        number = next(self._numbers)
        amount = FILTERED if number % 20 == 0 else 120.5
        also = {5: ["channel:other"], 15: ["channel:other"], 10: ["recipient:ada"]}.get(number % 20, [])
        self._job.send(order(f"order-{number}", amount, ["channel:hook", *also]), session=session)
        time.sleep(self._pause)

    def _burst(self, session: requests.Session) -> None:
        try:
            orders = self._bursts.get(timeout=0.1)
        except queue.Empty:
            return
        self._job.send(*orders, session=session)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.check()
