"""docs/how-to/consume-from-brokers.md: its sources can be applied, and what its programs publish becomes events."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
import yaml

from events.brokers.base import Broker
from events.models import Event, Source
from events.sources import adapters
from project.apply import apply, read_files
from tests.brokers.counterparts import Counterpart, Sqs, counterpart
from tests.brokers.running import Running
from tests.events.conftest import event_type
from tests.live import wait_until

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "how-to" / "consume-from-brokers.md"
SECTIONS: Final = {
    re.findall(r"adapter: (\w+)", section)[0]: section
    for section in DOCUMENT.read_text().split("\n## ")[1:]
    if "```yaml" in section
}

pytestmark = pytest.mark.django_db(transaction=True)


def block(section: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(found)


def here(text: str, broker: Counterpart, name: str) -> str:
    """The text with this session's broker in place of the usual one, and with names of its own."""
    usual = {"kafka": "9092", "rabbitmq": "5672", "nats": "4222", "mqtt": "1883", "redis": "6379"}
    if port := usual.get(broker.adapter):
        text = re.sub(rf"localhost(:|\", |\n  port: )?{port}", rf"127.0.0.1\g<1>{broker.proxy.port}", text)
        text = text.replace("host: localhost", f"host: 127.0.0.1\n  port: {broker.proxy.port}")
    if isinstance(broker, Sqs):
        text = text.replace("https://sqs.eu-west-1.amazonaws.com/123456789012/orders", broker.url_of(name))
        text = text.replace("region: eu-west-1", f"region: eu-west-1\n  endpoint: http://127.0.0.1:{broker.proxy.port}")
        text = text.replace('"sqs", ', f'"sqs", endpoint_url="http://127.0.0.1:{broker.proxy.port}", ')
    return (
        re.sub(r"\b(orders|ORDERS)\b(?!-)", name, text)
        .replace("order.*", f"{name}.*")
        .replace('"order.paid")', f'"{name}.paid")')
    )


def test_every_broker_has_its_section() -> None:
    assert set(SECTIONS) == {name for name, adapter in adapters.items() if issubclass(adapter, Broker)}


@pytest.mark.parametrize("adapter", sorted(SECTIONS))
def test_what_the_program_publishes_becomes_an_event(
    adapter: str, brokers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = counterpart(adapter, brokers)
    name = f"d{uuid4().hex[:10]}"
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "tests")
    if adapter in ("kafka", "sqs"):
        broker.prepare(name)
    event_type("order.paid")
    event_type("device.alarm")
    (tmp_path / "source.yaml").write_text(here(block(SECTIONS[adapter], "yaml"), broker, name))
    apply(read_files([tmp_path / "source.yaml"]))
    source = Source.objects.get()
    (tmp_path / "publish.py").write_text(here(block(SECTIONS[adapter], "python"), broker, name))
    try:
        with Running(source) as consumer:
            if adapter in ("mqtt", "rabbitmq"):  # what nobody has subscribed to is nobody's
                wait_until(lambda: consumer.status.state == "consuming")
            subprocess.run([sys.executable, tmp_path / "publish.py"], check=True, timeout=30)
            wait_until(Event.objects.exists, seconds=30)
        event = Event.objects.get()
        assert event.source == f"/{source.name}"
        assert event.data in ({"order_id": "A-1", "amount": 120.5}, {"temperature": 90, "at": "2026-11-30T10:00:00Z"})
    finally:
        if adapter == "rabbitmq":
            broker.remove(f"carillon.{name}")


def test_the_sources_are_yaml() -> None:
    assert all(yaml.safe_load(block(section, "yaml"))["kind"] == "Source" for section in SECTIONS.values())
