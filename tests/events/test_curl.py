"""The command that an event's page offers does what it says, in a real shell."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from events.curl import LONGEST, curl
from events.models import Event
from tests.events.conftest import Producer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not shutil.which("curl"), reason="no curl here"),
]

NASTY = """it's "quoted", $HOME `id` \\n END\nEND\n é 日本 !! %s"""


def happened(data: Any, **values: Any) -> Event:
    given = {"source": "/shop", "event_id": "e-1", "type": "note", "time": timezone.now(), "data": data, **values}
    return Event.objects.create(**given)


def run(shop: Producer, command: str) -> dict[str, Any]:
    environment = {"CARILLON_API_KEY": shop.key, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("data", "values"),
    [
        ({"n": 1, "text": NASTY}, {"subject": NASTY[:40].strip()}),
        (None, {}),
        ([1, "two"], {"source": "/shop/eu", "extensions": {"traceparent": "00-ab-cd-01"}}),
        ({"text": "é" * LONGEST}, {}),
    ],
    ids=["awkward", "empty", "extensions", "long"],
)
def test_it_sends_such_an_event_again(shop: Producer, data: Any, values: dict[str, Any]) -> None:
    event = happened(data, **values)
    answer = run(shop, curl(event, shop.url))
    assert answer["duplicate"] is False
    sent = Event.objects.get(uid=answer["uid"])
    for name in ("type", "source", "subject", "data", "extensions", "dataschema"):
        assert getattr(sent, name) == getattr(event, name), name
    assert sent.event_id != event.event_id


def test_what_carillon_made_is_sent_as_the_keys_source(shop: Producer) -> None:
    event = happened({"n": 1}, source="/carillon/nightly", extensions={"a": "b"})
    assert run(shop, curl(event, shop.url))["source"] == "/shop"


def test_the_page_offers_it(shop: Producer, admin_client: Any, settings: Any) -> None:
    settings.FLOWER_URL = "https://flower.example.com/"
    event = happened({"text": NASTY})
    page = admin_client.get(reverse("admin:events_event_change", args=[event.pk]))
    assert page.context["curl"].startswith("curl http")
    assert f"https://flower.example.com/tasks?name=events.route%20kwargs%3A{event.pk}" in page.content.decode()
