"""The whole stack in real processes: from POST to a row, a mail and a signed webhook, and the trace that tells it."""

from __future__ import annotations

import ast
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import requests
from standardwebhooks.webhooks import Webhook

from events.models import Subscription
from examples.ops.models import Order
from notifications.models import Attempt
from project.celery import app
from tests.brokers.counterparts import counterpart
from tests.flow.celery_brokers import on_rabbitmq, on_sqs
from tests.flow.job import HOOK, SECRET, Job, Load, order
from tests.live import Live, wait_until
from tests.sinks import HttpSink, SmtpSink

pytestmark = pytest.mark.flow

BOTH = ("channel:hook", "recipient:ada")


def started(live: Live, hooks: HttpSink, mails: SmtpSink, **environment: str) -> Job:
    live.environment.update(environment)
    job = Job.configure(live, hooks, mails)
    live.start("web", "worker", "performer", "sender", "clock")
    live.wait_ready()
    return job


@pytest.fixture
def job(
    request: pytest.FixtureRequest, live: Live, http_sink: HttpSink, smtp_sink: SmtpSink, brokers: Path
) -> Iterator[Job]:
    """The reference job on Redis, or on the broker that a test asks for; there is no Redis then."""
    with BROKERS[getattr(request, "param", "redis")](brokers) as environment:
        yield started(live, http_sink, smtp_sink, **environment)
        live.close()


BROKERS: dict[str, Callable[[Path], AbstractContextManager[dict[str, str]]]] = {
    "redis": lambda _: nullcontext({}),
    "rabbitmq": on_rabbitmq,
    "sqs": on_sqs,
}


@pytest.mark.parametrize("job", BROKERS, indirect=True)
def test_a_paid_order_becomes_a_row_a_mail_and_a_signed_webhook(job: Job) -> None:
    job.send(order("warm-up", tell=BOTH))
    job.hooks.wait_for(1, HOOK)
    job.mails.wait_for(1)

    began = time.monotonic()
    uid = job.post(order("A-1", tell=BOTH)).json()["uid"]
    job.hooks.wait_for(2, HOOK)
    job.mails.wait_for(2)
    took = time.monotonic() - began
    assert took < 10, took  # tens of milliseconds on a machine with nothing else to do

    row = Order.objects.get(order_id="A-1")
    assert (str(row.amount), row.customer) == ("120.50", "Ada")
    mail = job.mails.mails[1]
    assert mail.recipients == ["ada@example.com"]
    assert mail.message["Subject"] == "Order A-1 paid"
    assert mail.text.strip() == "Ada paid 120.5."
    call = job.hooks.to(HOOK)[1]
    assert Webhook(SECRET).verify(call.body, dict(call.headers))["data"]["id"] == "A-1"

    trace = told_to_its_end(job, uid)
    assert trace["event"]["data"] == order("A-1", tell=BOTH)["data"]
    assert trace["subscriptions"] == [{"name": "paid-orders", "verdict": "matched"}]
    (run,) = trace["runs"]
    assert (run["workflow"], run["version"], run["subscription"], run["state"]) == (
        "order-paid",
        1,
        "paid-orders",
        "succeeded",
    )
    assert [(step["id"], step["action"], step["state"], step["attempts"]) for step in run["steps"]] == [
        ("record", "database.upsert", "succeeded", 1),
        ("count", "record.put", "succeeded", 1),
        ("tell", "notify", "succeeded", 1),
        ("lines", "record.put", "succeeded", 1),
        ("lines", "record.put", "succeeded", 1),
        ("call", "http.request", "succeeded", 1),
        ("nap", "delay", "succeeded", 1),
        ("after", "record.put", "succeeded", 1),
    ]
    deliveries = {delivery["channel"]: delivery for delivery in run["steps"][2]["deliveries"]}
    assert deliveries.keys() == {"hook", "mail"}
    assert deliveries["hook"]["uid"] == call.headers["webhook-id"]
    assert (deliveries["mail"]["kind"], deliveries["mail"]["to"]) == ("email", "ada@example.com")
    for delivery, status in ((deliveries["hook"], 200), (deliveries["mail"], 250)):
        (attempt,) = delivery["attempts"]
        assert (attempt["number"], attempt["outcome"], attempt["status"]) == (1, "delivered", status)
        assert attempt["ms"] >= 0

    # It was the broker that woke them, not the clock.
    job.live.stop("clock")
    job.send(order("A-2", tell=BOTH))
    job.hooks.wait_for(3, HOOK)
    job.mails.wait_for(3)


def told_to_its_end(job: Job, uid: str) -> Any:
    """The trace once all runs are at their end and all deliveries have an outcome."""

    def ended() -> Any:
        trace = job.get(f"{uid}/trace")
        deliveries = [d for run in trace["runs"] for step in run["steps"] for d in step.get("deliveries", [])]
        ended = trace["runs"] and all(run["finished_at"] for run in trace["runs"])
        return trace if ended and deliveries and all(d["state"] == "delivered" for d in deliveries) else None

    return wait_until(ended, what="the end of the trace")


def test_the_trace_says_why_nothing_happened_and_flower_shows_what_did(job: Job) -> None:
    version = Subscription.objects.get().workflow
    Subscription.objects.create(
        name="vip", types=["order.*"], filter='event.data.vip.level == "gold"', workflow=version
    )
    Subscription.objects.create(name="old", types=["order.paid"], workflow=version, enabled=False)
    # Sent in chunks, as clients do that do not know the length beforehand.
    headers = {"Authorization": f"Bearer {job.key}", "Content-Type": "application/json"}
    url = f"{job.live.url}/api/v1/events"
    uid = requests.post(url, data=chunks(order("A-1", amount=50)), headers=headers, timeout=30).json()["uid"]
    assert requests.post(url, data=iter([b"[" + b" " * 1_000_000] * 6), headers=headers, timeout=30).status_code == 413
    trace = wait_until(lambda: (told := job.get(f"{uid}/trace"))["routed_at"] and told)
    reasons = {told["name"]: (told["verdict"], told["reason"]) for told in trace["subscriptions"]}
    assert reasons["old"] == ("disabled", "the subscription is disabled")
    assert reasons["paid-orders"][0] == "filtered"
    assert "event.data.amount > 100.0" in reasons["paid-orders"][1]
    assert reasons["vip"][0] == "error"
    assert "vip" in reasons["vip"][1]
    assert trace["runs"] == []

    job.live.stop("clock")  # it may have rung first, and the message names who did
    with listening(job) as seen:
        uid = job.post(order("A-2", tell=BOTH)).json()["uid"]
        # Afterwards the run is advanced by its own request's answer, which counts once more.
        wait_until(lambda: done(seen)["claimed"] >= 2 and done(seen)["runs"] >= 1, what="task events")
        assert done(seen)["events"] == 1
    who = [event["kwargs"] for event in seen if event["type"] == "task-received"]
    assert any(f"order.paid {uid}" in kwargs for kwargs in who), who


@contextmanager
def listening(job: Job) -> Iterator[list[dict[str, Any]]]:
    """The workers' events, as Flower gets them."""
    seen: list[dict[str, Any]] = []
    with app.connection_for_read(job.live.valkey.url) as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False))
        thread.start()
        wait_until(lambda: any(event["type"] == "worker-heartbeat" for event in seen), what="a heartbeat")
        try:
            yield seen
        finally:
            receiver.should_stop = True
            thread.join()


def done(seen: list[dict[str, Any]]) -> Counter[str]:
    """What the tasks say that they did, as Flower shows it."""
    counts = Counter[str]()
    for event in seen:
        if event["type"] == "task-succeeded":
            counts.update(ast.literal_eval(event["result"]))
    return counts


def chunks(event: dict[str, Any]) -> Iterator[bytes]:
    for character in json.dumps(event):
        yield character.encode()


def test_the_reference_job_loses_and_doubles_nothing_also_without_a_mail_server(job: Job) -> None:
    with Load(job, producers=8, pause=0):
        time.sleep(3)
    job.send(*(order(f"batch-{n}", tell=BOTH) for n in range(500)))
    job.wait_settled()
    assert job.check() == 0

    # The mail server goes away and comes back: mails are tried again, the webhook's lane does not care.
    job.mails.stop()
    sent, called = len(job.mails.mails), len(job.hooks.to(HOOK))
    for n in range(3):
        job.send(order(f"late-{n}", tell=BOTH))
    job.hooks.wait_for(called + 3, HOOK)
    wait_until(lambda: Attempt.objects.filter(delivery__kind="email", outcome="retry").exists(), what="a retry")
    assert not job.settled()
    job.mails.start()
    job.mails.wait_for(sent + 3, seconds=45)
    job.wait_settled()
    assert job.check() == 0


def test_workers_that_are_killed_and_a_rabbitmq_that_goes_away_lose_nothing(
    live: Live, http_sink: HttpSink, smtp_sink: SmtpSink, brokers: Path
) -> None:
    proxy = counterpart("rabbitmq", brokers).proxy
    with on_rabbitmq(brokers) as environment:
        job = started(live, http_sink, smtp_sink, **environment)
        with Load(job, producers=4, pause=0.01):
            for name in ("worker", "sender"):
                time.sleep(1)
                live.kill(name)
                time.sleep(0.3)
                live.start(name)
            proxy.stop()
            time.sleep(2)
            proxy.start()
            time.sleep(2)
        job.wait_settled(60)
        job.check()  # what was repeated is the same notification, known by its key
        assert len(job.accepted) > 50
        assert job.slowest < 5  # no producer waited for a broker that was away
        live.stop("clock")  # and the bells ring again
        before = len(job.hooks.to(HOOK))
        job.send(order("last"))
        job.hooks.wait_for(before + 1, HOOK)
        live.close()
