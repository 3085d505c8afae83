"""Each construct of the workflow language, as its example has it, through real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import amqp
import psycopg
import pytest
import redis
import requests
import yaml
from django.utils import timezone

from events.models import ApiKey, Source
from examples.ops.models import Order
from notifications.models import Channel, Delivery, Recipient
from project.scopes import Scope
from tests.brokers.counterparts import counterpart
from tests.live import Live, wait_until
from tests.sinks import Answer, HttpSink, SmtpSink
from tests.workflows.outside import billing
from tests.workflows.runs import move_back
from workflows.actions import actions
from workflows.models import Record, Run

pytestmark = pytest.mark.flow

EXAMPLES = Path("examples")
FILES = sorted([*EXAMPLES.glob("workflows/*.yaml"), *EXAMPLES.glob("*/*.yaml.example")])


class Stack:
    """A running Carillon with all examples, and a producer."""

    def __init__(self, live: Live, mails: SmtpSink) -> None:
        self.live, self.mails = live, mails
        live.environment.update(
            EMAIL_URL=mails.url,
            INBOX_SLACK_URL="http://127.0.0.1:1/nobody",
            WORKFLOW_TASKS="billing.*",
            WORKFLOW_DATABASES=f"warehouse={live.postgres.url_of('warehouse')}",
            STREAMS_URL=live.valkey.url,
            RABBITMQ_URL="amqp://guest:guest@127.0.0.1:5672/",
        )
        live.manage("apply", "examples")
        Channel.objects.update(retry_schedule=["0s"])
        Recipient.objects.update(quiet_hours={})  # nor does the hour at which the tests run keep mail back
        _, self.key = ApiKey.issue(Source.objects.get(name="local"), "tests", [Scope.EVENTS_WRITE, Scope.EVENTS_READ])
        live.start("web", "worker", "performer", "sender", "clock")
        live.wait_ready()

    def send(self, type_: str, *data: dict[str, Any]) -> list[Run]:
        """Send the events, one after the other; returns the runs that they start."""
        runs = []
        for each in data:
            answer = requests.post(
                f"{self.live.url}/api/v1/events",
                json={"type": type_, "data": each},
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=30,
            )
            assert answer.status_code == 202, answer.text
            runs.append(wait_until(partial(_run_of, answer.json()["uid"]), what=f"a run for {each}"))
        return [run for run in runs if run]

    def ends(self, run: Run, state: str = "succeeded", seconds: float = 20) -> Run:
        """Wait for the run's end."""
        wait_until(lambda: Run.objects.get(pk=run.pk).finished_at, seconds=seconds, what=f"the end of {run.pk}")
        run.refresh_from_db()
        assert run.state == state, run.error
        return run

    def waits(self, run: Run) -> None:
        wait_until(lambda: Run.objects.get(pk=run.pk).state == "waiting", what=f"{run.pk} to wait")


def _run_of(event: str) -> Run | None:
    return Run.objects.filter(origin=event).first()


@pytest.fixture(scope="module")
def mail() -> Any:
    sink = SmtpSink().start()
    yield sink
    sink.stop()


@pytest.fixture(scope="module")
def warehouse(shared_live: Live) -> Any:
    with psycopg.connect(shared_live.postgres.create_database("warehouse")) as connection:
        connection.execute(Path("examples/warehouse/warehouse.sql").read_text())
    yield
    shared_live.postgres.drop_database("warehouse")


@pytest.fixture(scope="module")
def stack(shared_live: Live, mail: SmtpSink, warehouse: None) -> Stack:
    return Stack(shared_live, mail)


def record(collection: str, key: str) -> Any:
    return Record.objects.get(collection=collection, key=key).value


def test_a_graph(stack: Stack) -> None:
    (run,) = stack.send("release.published", {"version": "2.4.0", "url": "https://example.com"})
    stack.waits(run)
    wait_until(lambda: "tell" in Run.objects.get(pk=run.pk).steps, what="the other branch")
    assert record("releases", "2.4.0")["closed"] is False
    move_back(1801)
    stack.ends(run)
    assert record("releases", "2.4.0")["closed"] is True


def test_a_loop(stack: Stack) -> None:
    parcels = [{"number": "P-1", "weight": 2.5}, {"number": "P-2", "weight": 0.0}, {"weight": 1.0}]
    (run,) = stack.send("shipment.packed", {"shipment": "S-1", "parcels": parcels})
    run = stack.ends(run)
    assert record("parcels", "S-1/P-1") == {"place": 1, "weight": 2.5}
    assert record("shipments", "S-1") == {"parcels": 3, "state": "failed"}
    assert run.steps["parcels"]["errors"] == {"2": "with.key: no such key: number"}
    assert Record.objects.filter(collection="parcels").count() == 1


def test_undoing(stack: Stack) -> None:
    cheap, dear = stack.send("trip.booked", {"trip": "T-1", "price": 900.0}, {"trip": "T-2", "price": 1200.0})
    stack.ends(cheap)
    assert {record("reservations", f"{what}-T-1") for what in ("hotel", "flight")} == {"reserved"}
    stack.ends(dear, "failed")
    assert record("reservations", "hotel-T-2") == "given back: pay: the card was refused"
    assert not Record.objects.filter(key="flight-T-2").exists()


def test_a_digest(stack: Stack) -> None:
    texts = ["Looks good.", "Looks bad.", "Who wrote this?"]
    first, *others = stack.send("comment.added", *({"document": "D-1", "text": text} for text in texts))
    for run in others:
        stack.ends(run)
    stack.waits(first)
    mails = len(stack.mails.mails)
    move_back(601)
    stack.ends(first)
    wait_until(lambda: len(stack.mails.mails) > mails, what="the mail")
    mail = stack.mails.mails[-1]
    assert mail.message["Subject"] == "3 new comments on D-1"
    assert mail.text.splitlines()[:3] == [f"- {text}" for text in texts]


def test_a_debounce_and_a_throttle(stack: Stack) -> None:
    runs = stack.send("page.changed", *({"site": "docs", "page": f"/{n}"} for n in range(3)))
    for run in runs:
        stack.waits(run)
    move_back(61)
    for run in runs:
        stack.ends(run)
    assert record("indexes", "docs") == {"changes": 3}
    assert [list(Run.objects.get(pk=run.pk).steps) for run in runs[:2]] == [["settle"], ["settle"]]


def test_one_after_the_other(stack: Stack) -> None:
    first, second = stack.send("deploy.requested", *({"service": "shop", "version": version} for version in "78"))
    stack.waits(first)
    wait_until(lambda: Run.objects.get(pk=second.pk).queued, what="the queue")
    assert record("deploying", "shop") == "7"
    move_back(301)
    stack.ends(first)
    assert record("deployed", "shop") == "7"
    wait_until(lambda: record("deploying", "shop") == "8", what="the next one")
    move_back(301)
    stack.ends(second)
    assert record("deployed", "shop") == "8"


def test_one_that_is_too_many_is_skipped(stack: Stack) -> None:
    until = (timezone.now() + timedelta(hours=2)).isoformat()
    held, second = stack.send(
        "order.reserved", *[{"order_id": "R-1", "net": 100.0, "customer": "", "until": until}] * 2
    )
    stack.waits(held)
    assert str(Order.objects.get(order_id="R-1").amount) == "119.00"
    stack.ends(second, "cancelled")
    move_back(7201)
    stack.ends(held)
    assert not Order.objects.filter(order_id="R-1").exists()


def test_one_that_is_too_many_replaces_the_other(stack: Stack) -> None:
    newer = {"order_id": "C-1", "amount": 99.5, "at": "2026-11-24T12:00:00Z"}
    first, second = stack.send("order.corrected", newer, {**newer, "amount": 90.0, "at": "2026-11-24T11:00:00Z"})
    stack.ends(first, "cancelled")
    kept = wait_until(lambda: Run.objects.get(pk=second.pk).steps.get("keep"), what="its turn")
    assert kept["output"]["changed"] is False
    assert Order.objects.get(order_id="C-1").amount == Decimal("99.5")
    move_back(301)
    stack.ends(second)


def test_runs_that_a_run_starts(stack: Stack) -> None:
    (run,) = stack.send("customer.left", {"customer": "ada", "shops": ["north", "south"]})
    stack.ends(run)
    assert record("closed-customers", "ada") == {"shops": 2}
    assert {record("closed-shops", shop)["customer"] for shop in ("north", "south")} == {"ada"}
    assert Run.objects.filter(parent=run.pk, state="succeeded").count() == 2


def test_a_request(stack: Stack, http_sink: HttpSink) -> None:
    http_sink.answers["/well"] = [
        Answer(503),
        Answer(body=b'{"version": "2.4.0"}', headers={"Content-Type": "application/json"}),
    ]
    http_sink.answers["/broken"] = [Answer(401)]
    well, gone = stack.send(
        "probe.requested",
        {"site": "docs", "url": http_sink.url("/well")},
        {"site": "shop", "url": http_sink.url("/broken")},
    )
    stack.ends(well)
    assert record("probes", "docs") == {"status": 200, "says": {"version": "2.4.0"}}
    first, second = http_sink.to("/well")
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    stack.ends(gone)
    assert "401" in record("probes", "shop")["error"]


def test_a_task_of_another_application(stack: Stack) -> None:
    stack.live.manage("apply", "examples/billing/billing.yaml.example")
    due = {"invoice": "I-7", "customer": "ada", "amount": 12.5}
    paid, unpaid = stack.send("invoice.due", due, {**due, "invoice": "I-8", "amount": -1})
    with billing(stack.live):
        stack.ends(paid)
        assert record("invoices", "I-7") == {"state": "paid", "amount": 12.5}
        stack.ends(unpaid, "failed")
    assert record("invoices", "I-8")["why"].startswith("charge: billing.charge failed")


def test_another_database(stack: Stack) -> None:
    stack.live.manage("apply", "examples/warehouse/warehouse.yaml.example")
    sale = {"order_id": "A-1", "amount": 120.5, "customer": "ada", "skus": ["bell", "rope"]}
    first, second = stack.send("sale.closed", sale, {**sale, "order_id": "A-2"})
    stack.ends(first)
    stack.ends(second)
    with psycopg.connect(stack.live.postgres.url_of("warehouse")) as connection:
        assert connection.execute("SELECT order_id FROM orders ORDER BY 1").fetchall() == [("A-1",), ("A-2",)]
        assert connection.execute("SELECT sku, n FROM stock ORDER BY 1").fetchall() == [("bell", 8), ("rope", 8)]
        assert connection.execute("SELECT orders, amount FROM daily").fetchall() == [(2, 241)]


def test_events_that_go_on_to_other_systems(stack: Stack, brokers: Path) -> None:
    port = counterpart("rabbitmq", brokers).proxy.target
    stack.live.manage("apply", "examples/brokers/brokers.yaml.example")
    with (
        amqp.Connection(f"127.0.0.1:{port}") as connection,
        redis.Redis.from_url(stack.live.valkey.url, decode_responses=True) as streams,
    ):
        channel: Any = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, "amq.topic", "shop.invoice.*")
        (run,) = stack.send("basket.ordered", {"basket": "B-1", "amount": 120.5})
        run = stack.ends(run)
        (_, entry), *more = wait_until(lambda: streams.xrange("shop-events"), what="the entry of the stream")
        message = wait_until(lambda: channel.basic_get(queue, no_ack=True), what="the message of the exchange")
        assert not more
        assert channel.basic_get(queue, no_ack=True) is None
    event = run.input
    assert (entry["ce-id"], entry["ce-source"], entry["ce-type"]) == (event["id"], event["source"], "basket.ordered")
    assert json.loads(entry["data"]) == {"basket": "B-1", "amount": 120.5}
    headers = message.properties["application_headers"]
    assert (headers["cloudEvents:type"], headers["cloudEvents:source"]) == ("invoice.requested", "/carillon")
    assert (headers["cloudEvents:id"], headers["cloudEvents:subject"]) == (f"{run.pk}/bill", "B-1")
    assert json.loads(message.body) == {"basket": "B-1", "amount": 120.5, "because": event["id"]}
    (uid,) = run.steps["bill"]["output"]["deliveries"]
    assert message.properties["message_id"] == uid
    wait_until(lambda: Delivery.objects.filter(state="delivered", pk=uid).exists(), what="the outcome")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_example_is_run_by_a_test(path: Path) -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    types = [each["name"] for each in yaml.safe_load_all(path.read_text()) if each["kind"] == "EventType"]
    assert types
    for name in types:
        assert f'"{name}"' in tests


def test_every_action_has_an_example() -> None:
    documents = [doc for path in [*FILES, *EXAMPLES.glob("*.yaml")] for doc in yaml.safe_load_all(path.read_text())]
    used = {step["action"] for doc in documents if doc["kind"] == "Workflow" for step in _steps(doc)}
    assert {name for name, kind in actions.items() if kind.__module__.startswith("workflows.actions.")} <= used


def _steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for step in [*workflow["steps"], *workflow.get("on_failure", [])]:
        yield step
        if "undo" in step:
            yield step["undo"]
