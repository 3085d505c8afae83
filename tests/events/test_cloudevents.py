"""A foreign producer, the CloudEvents project's own SDK, sends in every mode and reads back what it sent."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

from events.models import Event
from tests.events.conftest import Producer

TIME = datetime(2026, 1, 31, 12, tzinfo=UTC)


def cloud_event(data: Any = None, **attributes: Any) -> CloudEvent:
    given = {"type": "note", "source": "/shop", "id": "1", "specversion": "1.0", "time": TIME, **attributes}
    return CloudEvent(attributes=given, data=data)


def post(shop: Producer, message: http.HTTPMessage) -> Event:
    answer = shop.session.post(shop.url, data=message.body, headers=message.headers, timeout=30)
    assert answer.status_code == 202, answer.text
    return Event.objects.get(uid=answer.json()["uid"])


def read_back(shop: Producer, event: Event) -> Any:
    """The event as the SDK understands our answer."""
    answer = shop.get(f"/{event.uid}", headers={"Accept": "application/cloudevents+json"})
    assert answer.headers["Content-Type"] == "application/cloudevents+json"
    return http.from_structured_event(http.HTTPMessage(dict(answer.headers), answer.content))


@pytest.mark.parametrize("write", [http.to_structured_event, http.to_binary_event])
def test_the_sdk_sends_and_reads_back_an_event(shop: Producer, write: Any) -> None:
    sent = cloud_event(
        {"text": "Grüße, 世界 🎉"},
        subject="Müller & Söhne 100%",
        datacontenttype="application/json",
        dataschema="https://example.com/note/1",
        tenant="north",
    )
    event = post(shop, write(sent))
    assert (event.event_id, event.source, event.type, event.time) == ("1", "/shop", "note", TIME)
    assert event.subject == "Müller & Söhne 100%"
    assert event.data == {"text": "Grüße, 世界 🎉"}
    assert event.extensions == {"tenant": "north", "datacontenttype": "application/json"}
    back = read_back(shop, event)
    assert back.get_data() == sent.get_data()
    assert {**sent.get_attributes(), "uid": str(event.uid)} == back.get_attributes()


def test_the_sdk_sends_a_batch(shop: Producer) -> None:
    bodies = [json.loads(http.to_structured_event(cloud_event({"n": n}, id=str(n))).body) for n in range(3)]
    answer = shop.send_bytes(json.dumps(bodies), "application/cloudevents-batch+json; charset=utf-8")
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 3
    assert [event.data["n"] for event in Event.objects.order_by("event_id")] == [0, 1, 2]


@pytest.mark.parametrize("write", [http.to_structured_event, http.to_binary_event])
def test_bytes_travel_as_base64(shop: Producer, write: Any) -> None:
    blob = bytes(range(256))
    event = post(shop, write(cloud_event(blob, datacontenttype="application/octet-stream")))
    assert event.data is None
    assert base64.b64decode(event.extensions["data_base64"]) == blob
    assert read_back(shop, event).get_data() == blob


@pytest.mark.parametrize("write", [http.to_structured_event, http.to_binary_event])
def test_text_stays_text(shop: Producer, write: Any) -> None:
    event = post(shop, write(cloud_event("plain <text>", datacontenttype="text/plain")))
    assert event.data == "plain <text>"
    assert read_back(shop, event).get_data() == "plain <text>"


@pytest.mark.parametrize("write", [http.to_structured_event, http.to_binary_event])
def test_an_event_may_have_no_data(shop: Producer, write: Any) -> None:
    event = post(shop, write(cloud_event()))
    assert event.data is None
    assert read_back(shop, event).get_data() is None


@pytest.mark.parametrize(
    ("headers", "paths"),
    [
        ({"ce-id": ""}, ["ce-id"]),
        ({"ce-specversion": "0.3"}, ["ce-specversion"]),
        ({"ce-time": "noon"}, ["ce-time"]),
        ({"ce-type": "%00"}, ["ce-type"]),
        ({"ce-uid": "1"}, ["ce-uid"]),
        ({"ce-some-thing": "1"}, ["ce-some-thing"]),
        ({"ce-subject": "x" * 501, "ce-id": "x" * 201}, ["ce-subject", "ce-id"]),
    ],
)
def test_a_bad_header_is_named(shop: Producer, headers: dict[str, str], paths: list[str]) -> None:
    message = http.to_binary_event(cloud_event({}, datacontenttype="application/json"))
    answer = shop.session.post(shop.url, data=message.body, headers={**message.headers, **headers}, timeout=30)
    assert answer.status_code == 400
    assert {error["path"] for error in answer.json()["errors"]} == set(paths)
    assert not Event.objects.exists()


def test_binary_mode_may_bring_a_body_that_is_no_json(shop: Producer) -> None:
    message = http.to_binary_event(cloud_event({}, datacontenttype="application/json"))
    for body, status in ((b"{", 400), (b"[1]", 202)):
        answer = shop.session.post(shop.url, data=body, headers=message.headers, timeout=30)
        assert answer.status_code == status
    message = http.to_binary_event(cloud_event("x", datacontenttype="text/plain", id="2"))
    assert shop.session.post(shop.url, data=b"\xff", headers=message.headers, timeout=30).status_code == 400


def test_extensions_keep_their_kind(shop: Producer) -> None:
    sent = {
        "specversion": "1.0",
        "type": "note",
        "id": "1",
        "source": "/shop",
        "n": 5,
        "yes": True,
        "no": None,
        "f": "x",
    }
    uid = shop.send_bytes(json.dumps(sent), "application/cloudevents+json").json()["uid"]
    back = shop.get(f"/{uid}").json()
    assert (back["n"], back["yes"], back["f"]) == (5, True, "x")
    assert "no" not in back


@pytest.mark.parametrize("write", [http.to_structured_event, http.to_binary_event])
def test_an_event_that_was_published_keeps_its_depth(shop: Producer, write: Any) -> None:
    event = post(shop, write(cloud_event({}, datacontenttype="application/json", carillondepth=7)))
    assert (event.depth, event.envelope()["depth"]) == (7, 7)
    assert "carillondepth" not in event.extensions


@pytest.mark.parametrize("depth", [-1, 1.5, "", "seven", True, "²", 10_000])
def test_a_depth_that_is_none_is_named(shop: Producer, depth: Any) -> None:
    event = {"specversion": "1.0", "type": "note", "id": "1", "source": "/shop", "carillondepth": depth}
    answer = shop.send_bytes(json.dumps(event), "application/cloudevents+json")
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert (error["path"], "a whole number from 0 to 9999" in error["message"]) == ("carillondepth", True)


def test_another_version_of_cloudevents_is_refused(shop: Producer) -> None:
    old = cloud_event({}, specversion="1.0").get_attributes() | {"specversion": "0.3", "time": "2026-01-31T12:00:00Z"}
    answer = shop.send_bytes(json.dumps(old), "application/cloudevents+json")
    assert answer.status_code == 400
    assert '"1.0"' in answer.json()["detail"]
