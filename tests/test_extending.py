"""The examples of docs/extending.md are files that work as they stand there."""

from __future__ import annotations

import base64
import hmac
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import transaction
from django.test import Client

from events.models import DeadLetter, Event, EventType, Source
from events.sources import adapters
from notifications.channels import channel_types
from notifications.models import Channel, Delivery, Template
from notifications.sender import Sender
from tests.brokers.running import Running
from tests.live import wait_until
from tests.sinks import HttpSink, SmtpSink
from workflows import code, engine
from workflows.actions import actions
from workflows.definition import parse
from workflows.models import Record, Run
from workflows.publishing import publish
from workflows.rehearsal import rehearse
from workflows.work import Start

DOCUMENT = Path(__file__).parent.parent / "docs" / "extending.md"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module", autouse=True)
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Load each titled block of Python as the module that it says it is."""
    loaded = []
    for title, source in re.findall(r"```python title=(\S+)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        path = tmp_path_factory.mktemp("extending") / Path(title).name
        path.write_text(source)
        name = title.removesuffix(".py").replace("/", ".")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        loaded.append(name)
    assert loaded == [
        "notifications.channels.ntfy",
        "events.sources.shopify",
        "events.brokers.folder",
        "billing.actions",
        "couriers.actions",
    ]
    yield
    for name in loaded:
        del sys.modules[name]
    # Other tests hold every registered member to its family's duties, and these are only visitors.
    del channel_types._classes["ntfy"], adapters._classes["shopify"], adapters._classes["folder"]
    del actions._classes["wallet.credit"], actions._classes["courier.order"]


def run(steps: str, given: dict[str, object]) -> Run:
    version, _ = publish(f"name: example\nsteps:\n{steps}")
    with transaction.atomic():
        (started,) = engine.start([Start(version.workflow_id, version.pk, given)], at_once=False)
    engine.advance()
    started.refresh_from_db()
    return started


def test_the_channel_sends(http_sink: HttpSink) -> None:
    settings = {"url": http_sink.url("").rstrip("/"), "token": "secret"}
    channel = Channel(name="phones", type="ntfy", settings=settings, default=True)
    channel.full_clean()
    channel.save()
    Template.objects.create(name="t", subject="{{ event.what }}", text="It says {{ event.what }}.")
    told = run("  - {id: tell, action: notify, with: {to: ['ntfy:alerts'], template: t}}", {"what": "hello"})
    assert told.state == "succeeded"
    sender = Sender()
    sender.drain()
    (request,) = http_sink.wait_for(1)
    sender.stop()
    assert request.path == "/alerts"
    assert request.body == b"It says hello."
    assert request.headers["x-title"] == "hello"
    assert request.headers["authorization"] == "Bearer secret"
    assert Delivery.objects.get().state == "delivered"


def test_the_source_takes_what_shopify_signs(client: Client) -> None:
    source = Source(name="shop", adapter="shopify", secret="hush", previous_secret="of before")
    source.full_clean()
    source.save()
    source.bring_types()

    def call(secret: str, topic: str) -> tuple[int, str]:
        body = b'{"id": 820982911946154508, "name": "#9999"}'
        headers = {
            "X-Shopify-Hmac-Sha256": base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode(),
            "X-Shopify-Topic": topic,
            "X-Shopify-Event-Id": f"98880550-7158-44d4-b7cd-{topic}",
        }
        answer = client.post("/hooks/shop", body, content_type="application/json", headers=headers)
        return answer.status_code, answer.json().get("type", "")

    assert call("hush", "orders/create") == (202, "shopify.orders.create")
    assert call("of before", "orders/create") == (200, "shopify.orders.create")
    assert call("hush", "app/uninstalled") == (202, "shopify.app.uninstalled")
    assert call("wrong", "orders/paid")[0] == 401
    assert {event.subject for event in Event.objects.all()} == {"#9999"}


def test_the_broker_is_consumed_from(tmp_path: Path) -> None:
    EventType.objects.create(name="scan.made")
    settings = {"path": str(tmp_path), "type": "scan.made", "subject": "${{ message.file }}"}
    source = Source(name="scans", adapter="folder", settings=settings)
    source.full_clean()
    source.save()
    (tmp_path / "a.json").write_text('{"pages": 2}')
    (tmp_path / "b.json").write_text("not JSON")
    with Running(source):
        wait_until(lambda: len(list((tmp_path / "done").glob("*"))) == 2)
    event, letter = Event.objects.get(), DeadLetter.objects.get()
    assert (event.type, event.subject, event.data) == ("scan.made", "a.json", {"pages": 2})
    assert letter.position.startswith("b.json@")


def test_the_action_takes_effect_and_says_what_is_wrong() -> None:
    Record.objects.create(collection="wallets", key="ada", value={"balance": 1.5})
    step = '  - {id: credit, action: wallet.credit, with: {customer: "${{ event.who }}", amount: 2}}'
    assert run(step, {"who": "ada"}).steps["credit"]["output"] == {"balance": 3.5}
    assert Record.objects.get(key="ada").value == {"balance": 3.5}
    assert run(step, {"who": "bob"}).error == "credit: bob has no wallet"


def test_the_action_says_what_it_would_do() -> None:
    Record.objects.create(collection="wallets", key="ada", value={"balance": 1.5})
    step = '  - {id: credit, action: wallet.credit, with: {customer: "${{ event.who }}", amount: 2}}'
    (told,) = rehearse(parse(f"name: w\nsteps:\n{step}"), {"who": "ada"}).steps
    assert told.rehearsal is not None
    assert (told.rehearsal.would, told.row.output) == ("add 2.0 to ada's wallet", {"balance": 3.5})
    assert Record.objects.get(key="ada").value == {"balance": 1.5}
    assert rehearse(parse(f"name: w\nsteps:\n{step}"), {"who": "bob"}).run.error == "credit: bob has no wallet"
    assert (
        actions["wallet.credit"].model_json_schema()["properties"]["customer"]["description"] == "Whose wallet it is."
    )


def test_the_outside_action_is_performed_after_the_commit(smtp_sink: SmtpSink) -> None:
    with_ = f"{{server: 127.0.0.1, port: {smtp_sink.port}, parcel: '${{{{ event.parcel }}}}'}}"
    step = f"  - {{id: order, action: courier.order, with: {with_}}}"
    ordered, wrong = (run(step, {"parcel": parcel}) for parcel in ("P-1", "x"))
    assert not smtp_sink.mails
    while code.perform_one(fatal=False):
        engine.advance()
    ordered.refresh_from_db()
    wrong.refresh_from_db()
    assert (ordered.state, ordered.steps["order"]["output"]) == ("succeeded", {"ordered": "P-1"})
    assert (wrong.state, wrong.error) == ("failed", "order: x is no parcel")
    (mail,) = smtp_sink.mails
    assert mail.message["Message-ID"] == f"<{ordered.pk}/order@carillon>"
