"""Each row of the events API's table of answers, over real HTTP."""

from __future__ import annotations

import gc
import http.client
import json
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import requests
from django.db import connection, transaction
from django.test import RequestFactory
from django.utils import timezone
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from events import ingest
from events.cloudevents import Incoming
from events.models import Event, EventType, Source
from events.views import EventsView
from project.scopes import Scope
from tests.events.conftest import ORDER, PAID, Producer, event_type


def refused(answer: requests.Response, status: int, *paths: str) -> dict[str, Any]:
    """The problem that the answer is, at fault in exactly these paths."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert [error["path"] for error in problem.get("errors", [])] == list(paths)
    return problem


def nothing_stored() -> bool:
    return not Event.objects.exists()


# --- 202 and 200 -----------------------------------------------------------------------------------------------------


def test_an_event_is_stored_with_defaults_and_answered_202(shop: Producer) -> None:
    answer = shop.send({"type": "order.paid", "data": PAID})
    assert answer.status_code == 202
    assert answer.headers["Content-Type"] == "application/json"
    told = answer.json()
    event = Event.objects.get()
    assert told == {
        "uid": str(event.uid),
        "id": event.event_id,
        "source": "/shop",
        "type": "order.paid",
        "duplicate": False,
    }
    assert UUID(told["id"]).version == 7
    assert event.uid.version == 7
    assert event.data == PAID
    assert abs(event.time - timezone.now()) < timedelta(seconds=30)
    assert event.due_at is not None


def test_everything_that_was_sent_is_kept(shop: Producer) -> None:
    sent = {
        "type": "order.paid",
        "id": "o-1",
        "source": "/shop/eu",
        "subject": "A-1",
        "time": "2026-01-31T13:00:00.123456+01:00",
        "dataschema": "order.paid/1",
        "data": PAID,
    }
    assert shop.send(sent).status_code == 202
    event = Event.objects.get()
    assert (event.event_id, event.source, event.subject, event.dataschema) == ("o-1", "/shop/eu", "A-1", "order.paid/1")
    assert event.time.isoformat() == "2026-01-31T12:00:00.123456+00:00"


def test_the_same_event_again_is_answered_200_as_it_was_stored(shop: Producer) -> None:
    first = shop.send({"type": "order.paid", "id": "o-1", "data": PAID})
    again = shop.send({"type": "note", "id": "o-1", "data": "something else"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == {**first.json(), "duplicate": True}
    assert Event.objects.get().data == PAID


def test_the_same_id_below_another_source_is_another_event(shop: Producer) -> None:
    answers = [shop.send({"type": "note", "id": "1", "source": source}) for source in ("/shop", "/shop/eu", "/shop/us")]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert Event.objects.count() == 3


def test_a_batch_counts_what_is_new_and_what_is_not(shop: Producer) -> None:
    shop.send({"type": "note", "id": "b", "data": "first"})
    answer = shop.send([{"type": "note", "id": name} for name in ("a", "b", "c", "a")])
    assert answer.status_code == 202
    told = answer.json()
    assert (told["accepted"], told["duplicates"]) == (2, 2)
    assert [event["id"] for event in told["events"]] == ["a", "b", "c", "a"]
    assert [event["duplicate"] for event in told["events"]] == [False, True, False, True]
    assert told["events"][3]["uid"] == told["events"][0]["uid"]
    assert Event.objects.count() == 3


def test_a_batch_of_one_is_answered_as_a_batch(shop: Producer) -> None:
    assert shop.send([{"type": "note", "id": "a"}]).json()["accepted"] == 1


def test_a_batch_of_nothing_but_duplicates_is_answered_200(shop: Producer) -> None:
    batch = [{"type": "note", "id": name} for name in "abc"]
    assert shop.send(batch).status_code == 202
    again = shop.send(batch)
    assert again.status_code == 200
    assert (again.json()["accepted"], again.json()["duplicates"]) == (0, 3)


def test_a_thousand_events_are_one_batch(shop: Producer) -> None:
    answer = shop.send([{"type": "order.paid", "id": str(n), "data": PAID} for n in range(1000)])
    assert answer.status_code == 202
    assert Event.objects.count() == 1000


def test_many_who_send_the_same_event_at_once_store_it_once(shop: Producer) -> None:
    def send(n: int) -> requests.Response:
        return requests.post(
            shop.url, json={"type": "note", "id": f"same-{n % 4}"}, headers=dict(shop.session.headers), timeout=30
        )

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(64)))
    assert sorted(answer.status_code for answer in answers) == [200] * 60 + [202] * 4
    assert Event.objects.count() == 4
    for name in range(4):
        uids = {answer.json()["uid"] for answer in answers if answer.json()["id"] == f"same-{name}"}
        assert len(uids) == 1


def test_batches_with_events_in_common_do_not_wait_for_each_other(shop: Producer) -> None:
    """In two orders: rows stored in the order of arrival would be a deadlock."""
    together = threading.Barrier(2)

    def send(step: int) -> Counter[bool]:
        seen: Counter[bool] = Counter()
        for turn in range(10):
            batch = [Incoming("note", id=f"{turn}-{n}") for n in range(1000)][::step]
            together.wait(10)
            seen.update(event.duplicate for event in ingest.accept(batch, source="/shop", batch=True))
        connection.close()
        return seen

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(send, [1, -1]), Counter[bool]()) == {False: 10_000, True: 10_000}


def test_the_idempotency_key_is_the_id_where_none_is_given(shop: Producer) -> None:
    key = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    first = shop.send({"type": "note"}, headers=key)
    again = shop.send({"type": "note"}, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == key["Idempotency-Key"]
    assert shop.send({"type": "note", "id": "own"}, headers=key).json()["id"] == "own"
    refused(shop.send({"type": "note"}, headers={"Idempotency-Key": "x" * 201}), 400, "Idempotency-Key")


# --- 400 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"type": "note",}',
        b"nonsense",
        b"\xff\xfe",
        b'{"type": "note", "data": NaN}',
        b'{"type": "note", "data": 1e999}',
    ],
)
def test_what_is_not_json_is_refused(shop: Producer, body: bytes) -> None:
    problem = refused(shop.send_bytes(body), 400)
    assert "not JSON" in problem["detail"]
    assert "line 1 column" in problem["detail"]
    assert nothing_stored()


@pytest.mark.parametrize(
    ("event", "paths"),
    [
        ("a text", [""]),
        (None, [""]),
        (5, [""]),
        ({}, ["type"]),
        ({"type": ""}, ["type"]),
        ({"type": None}, ["type"]),
        ({"type": 5}, ["type"]),
        ({"type": ["note"]}, ["type"]),
        ({"type": "note", "payload": 1, "kind": 2}, ["payload", "kind"]),
        ({"type": "note", "id": 5}, ["id"]),
        ({"type": "note", "id": "x" * 201}, ["id"]),
        ({"type": "note", "id": "ü" * 101}, ["id"]),
        ({"type": "note", "id": "\0"}, ["id"]),
        ({"type": "note", "subject": {}}, ["subject"]),
        ({"type": "note", "subject": "x" * 501}, ["subject"]),
        ({"type": "note", "dataschema": True}, ["dataschema"]),
        ({"type": "note", "source": 1, "subject": 2}, ["subject", "source"]),
        ({"type": "note", "data": {"text": "a\0b"}}, ["data"]),
        ({"type": "note", "data": ["\0"]}, ["data"]),
        ({"type": "note", "data": {"a\0b": 1}}, ["data"]),
        ({"type": "note", "data": "\0"}, ["data"]),
        ({"specversion": "1.0", "type": "note"}, ["id", "source"]),
        ({"specversion": "0.3", "type": "note", "id": "1", "source": "/shop"}, ["specversion"]),
        ({"specversion": "1.0", "type": "note", "id": "1", "source": "/shop", "Big": 1}, ["Big"]),
        ({"specversion": "1.0", "type": "note", "id": "1", "source": "/shop", "ext": {}}, ["ext"]),
        ({"specversion": "1.0", "type": "note", "id": "1", "source": "/shop", "ext": "\0"}, ["data"]),
        ({"specversion": "1.0", "type": "note", "id": "1", "source": "/shop", "uid": "1"}, ["uid"]),
        ({"specversion": "1.0", "type": "note", "id": "1", "source": "/shop", "data_base64": "?"}, ["data_base64"]),
        ({"specversion": "1.0", "type": "note", "id": "1", "source": "/shop", "data_base64": 5}, ["data_base64"]),
        (
            {"specversion": "1.0", "type": "note", "id": "1", "source": "/shop", "data_base64": "eA==", "data": 1},
            ["data_base64"],
        ),
    ],
)
def test_what_is_no_event_is_refused_naming_the_field(shop: Producer, event: Any, paths: list[str]) -> None:
    refused(shop.send_bytes(json.dumps(event)), 400, *paths)
    assert nothing_stored()


@pytest.mark.parametrize(
    "time",
    [
        "",
        "yesterday",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31 12:00",
        1769860800,
        {},
        True,
    ],
)
def test_a_time_that_is_none_is_refused(shop: Producer, time: Any) -> None:
    problem = refused(shop.send({"type": "note", "time": time}), 400, "time")
    assert "RFC 3339" in problem["detail"]
    assert nothing_stored()


@pytest.mark.parametrize(
    ("time", "kept"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31t12:00:00z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00.123456789+05:30", "2026-01-31T06:30:00.123456+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_any_rfc_3339_time_is_kept(shop: Producer, time: str, kept: str) -> None:
    assert shop.send({"type": "note", "time": time}).status_code == 202
    assert Event.objects.get().time.isoformat() == kept


def test_a_batch_names_every_fault_by_index_and_stores_nothing(shop: Producer) -> None:
    batch = [{"type": "note"}, {"type": "note", "time": "x"}, 7, {"type": "note", "colour": "red"}, {}]
    refused(shop.send(batch), 400, "1.time", "2", "3.colour", "4.type")
    assert nothing_stored()


def test_an_empty_batch_is_refused(shop: Producer) -> None:
    refused(shop.send([]), 400)


@pytest.mark.parametrize("integer", [2**64, -(2**63) - 1, 10**40])
def test_an_integer_that_would_be_rounded_is_refused_by_its_digits(shop: Producer, integer: int) -> None:
    problem = refused(shop.send({"type": "note", "data": {"n": integer}}), 400)
    assert str(integer) in problem["detail"]
    assert nothing_stored()


def test_long_digits_that_are_not_integers_are_taken(shop: Producer) -> None:
    body = b'{"type": "note", "data": [0.12345678901234567890, "123456789012345678901234567890", 18446744073709551615]}'
    uid = shop.send_bytes(body).json()["uid"]
    assert shop.get(f"/{uid}").json()["data"] == [0.12345678901234568, "123456789012345678901234567890", 2**64 - 1]


def test_json_that_is_nested_too_deep_is_refused(shop: Producer) -> None:
    for depth, status in ((90, 202), (120, 400), (300, 400), (1000, 400), (5000, 400)):
        data = "[" * depth + "]" * depth
        assert shop.send_bytes(f'{{"type": "note", "data": {data}}}').status_code == status, depth
    wide = json.dumps({"type": "note", "data": [[] for _ in range(5000)]})
    assert shop.send_bytes(wide).status_code == 202


@pytest.mark.parametrize("name", ["ce-time", "ce-id", "ce-colour-of-it", "ce-data"])
def test_a_bad_header_is_refused(shop: Producer, name: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "note", "ce-id": "1", "ce-source": "/shop", name: "%00"}
    refused(shop.send_bytes(b"{}", **headers), 400, name)


# --- 401 and 403 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic c2hvcDpzaG9w", "Bearer nobody", "Bearer \xff", "carillon_abc"],
)
def test_without_a_known_key_the_answer_is_401(shop: Producer, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    for answer in (
        requests.post(shop.url, json={"type": "note"}, headers=headers, timeout=30),
        requests.get(shop.url, headers=headers, timeout=30),
    ):
        refused(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert nothing_stored()


def test_a_key_works_until_it_expires_is_revoked_or_its_source_is_disabled(shop: Producer) -> None:
    def status() -> int:
        catalogue_is_asked_again(shop)
        return shop.send({"type": "note"}).status_code

    assert status() == 202
    shop.row.expires_at = timezone.now() - timedelta(seconds=1)
    shop.row.save()
    assert status() == 401
    shop.row.expires_at = timezone.now() + timedelta(days=1)
    shop.row.save()
    assert status() == 202
    Source.objects.update(enabled=False)
    assert status() == 401
    Source.objects.update(enabled=True)
    assert status() == 202
    shop.row.revoked_at = timezone.now()
    shop.row.save()
    assert status() == 401


def catalogue_is_asked_again(shop: Producer) -> None:
    """A stranger's key makes the process look at the configuration now, not within its second."""
    requests.get(shop.url, headers={"Authorization": "Bearer stranger"}, timeout=30)


def test_revoking_a_key_works_within_a_second_by_itself(shop: Producer) -> None:
    assert shop.send({"type": "note"}).status_code == 202
    shop.row.delete()
    deadline = timezone.now() + timedelta(seconds=1.5)
    while shop.send({"type": "note"}).status_code != 401:
        assert timezone.now() < deadline


def test_a_key_may_do_what_its_scopes_say(shop: Producer, live_server: LiveServer) -> None:
    uid = shop.send({"type": "note"}).json()["uid"]
    writer = Producer(live_server.url, shop.source, Scope.EVENTS_WRITE)
    reader = Producer(live_server.url, shop.source, Scope.EVENTS_READ)
    assert writer.send({"type": "note"}).status_code == 202
    for path in ("", f"/{uid}", f"/{uid}/trace"):
        assert reader.get(path).status_code == 200
        assert "events:read" in refused(writer.get(path), 403)["detail"]
        assert writer.session.head(writer.url + path, timeout=30).status_code == 403
    assert "events:write" in refused(reader.send({"type": "note"}), 403)["detail"]
    writer.session.close()
    reader.session.close()


@pytest.mark.parametrize(
    "source", ["/", "/shopping", "/warehouse", "shop", "/SHOP", "https://example.com/shop", "/shop2/eu"]
)
def test_a_key_cannot_speak_for_another_source(shop: Producer, source: str) -> None:
    problem = refused(shop.send({"type": "note", "source": source}), 403, "source")
    assert "/shop" in problem["errors"][0]["message"]
    refused(shop.send([{"type": "note", "source": source}]), 403, "0.source")
    refused(shop.send([{"type": "note"}, {"type": "note", "source": source}]), 403, "1.source")
    assert nothing_stored()


# --- 404, 405, 406 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/0199a000-0000-7000-8000-000000000000", "/not-a-uuid", "/", "/x/trace"])
def test_what_is_not_there_is_a_problem_too(shop: Producer, path: str) -> None:
    refused(shop.get(path), 404)


def test_other_methods_are_refused(shop: Producer) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        answer = shop.session.request(method, shop.url, timeout=30)
        refused(answer, 405)
        assert "POST" in answer.headers["Allow"]


def test_an_accept_header_that_cannot_be_met_is_406(shop: Producer) -> None:
    refused(shop.session.post(shop.url, json={"type": "note"}, headers={"Accept": "text/html"}, timeout=30), 406)
    assert nothing_stored()


def test_the_accept_header_does_not_change_the_answer(shop: Producer) -> None:
    # */* and application/json take a shorter way than all others (EventsView.dispatch).
    def told(accept: str, event: Any) -> tuple[int, dict[str, str], Any]:
        answer = shop.send(event, headers={"Accept": accept})
        headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "Content-Length")}
        return answer.status_code, headers, {**answer.json(), "uid": ""}

    events: list[Any] = [{"type": "note", "id": "7"}, {"type": "unknown"}, {"type": "note", "source": "/other"}, []]
    for event in events:
        told("*/*", event)  # the first is new, and a duplicate from here on
        assert told("*/*", event) == told("application/json", event) == told("application/*, text/html;q=0.1", event)


def test_an_answered_request_is_let_go_at_once(shop: Producer) -> None:
    """With its body. The garbage collector would come by some two thousand requests later."""
    headers = {"Authorization": str(shop.session.headers["Authorization"])}
    request = RequestFactory().post("/api/v1/events", {"type": "note"}, "application/json", headers=headers)
    held = weakref.ref(request)
    gc.disable()
    try:
        assert EventsView.as_view()(request).status_code == 202
        del request
        assert held() is None
    finally:
        gc.enable()


def test_a_refused_event_takes_its_share_of_the_rate_once(shop: Producer) -> None:
    Source.objects.filter(pk=shop.source.pk).update(rate_limit="2/h")
    for _ in range(2):
        refused(shop.send({"type": "unknown"}), 422, "type")
    refused(shop.send({"type": "note"}), 429)


# --- 413 and 415 -----------------------------------------------------------------------------------------------------


def sized(size: int) -> bytes:
    start = b'{"type": "note", "data": "'
    return start + b"x" * (size - len(start) - 2) + b'"}'


def test_an_event_may_have_256_kib(shop: Producer) -> None:
    assert shop.send_bytes(sized(256 * 1024)).status_code == 202
    refused(shop.send_bytes(sized(256 * 1024 + 1)), 413)
    assert Event.objects.count() == 1


def test_an_event_of_a_batch_may_have_256_kib(shop: Producer) -> None:
    problem = refused(shop.send_bytes(b"[" + sized(300) + b"," + sized(256 * 1024 + 10) + b"]"), 413)
    assert "Event 1 of the batch" in problem["detail"]
    assert nothing_stored()


def test_a_batch_may_have_a_thousand_events(shop: Producer) -> None:
    problem = refused(shop.send([{"type": "note"}] * 1001), 413)
    assert "1001" in problem["detail"]
    assert nothing_stored()


def test_a_request_may_have_5_mib(shop: Producer) -> None:
    event = sized(250_000)
    assert shop.send_bytes(b"[" + b",".join([event] * 20) + b"]").status_code == 202
    refused(shop.send_bytes(b"[" + b",".join([event] * 22) + b"]"), 413)
    assert Event.objects.count() == 20


def test_a_request_that_says_it_is_too_large_is_refused_unread(shop: Producer, live_server: LiveServer) -> None:
    connection = http.client.HTTPConnection(live_server.thread.host, live_server.thread.port, timeout=10)
    connection.putrequest("POST", "/api/v1/events")
    for name, value in {"Authorization": f"Bearer {shop.key}", "Content-Type": "application/json"}.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", "100000000000")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_the_limits_are_settings(shop: Producer, settings: Settings) -> None:
    settings.EVENT_MAX_BYTES, settings.BATCH_MAX_EVENTS = 1000, 2
    assert shop.send_bytes(sized(1000)).status_code == 202
    refused(shop.send_bytes(sized(1001)), 413)
    refused(shop.send([{"type": "note"}] * 3), 413)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "application/cloudevents+xml",
        "application/cloudevents",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "",
        "nonsense",
    ],
)
def test_an_unknown_content_type_is_refused_naming_the_known_ones(shop: Producer, content_type: str) -> None:
    problem = refused(shop.send_bytes(b'{"type": "note"}', content_type), 415)
    assert "UTF-8" in problem["detail"] or "application/cloudevents-batch+json" in problem["detail"]
    assert nothing_stored()


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']
)
def test_a_content_type_may_be_written_in_many_ways(shop: Producer, content_type: str) -> None:
    assert shop.send_bytes(b'{"type": "note"}', content_type).status_code == 202


# --- 422 -------------------------------------------------------------------------------------------------------------


def test_an_unknown_type_is_refused(shop: Producer) -> None:
    problem = refused(shop.send({"type": "order.payed"}), 422, "type")
    assert "order.payed" in problem["detail"]
    assert nothing_stored()


def test_a_retired_type_is_refused(shop: Producer) -> None:
    event_type("old", retired=True)
    assert "retired" in refused(shop.send({"type": "old"}), 422, "type")["detail"]
    EventType.objects.filter(name="old").update(retired=False)
    assert shop.send({"type": "old"}).status_code == 202


def test_every_violation_of_the_schema_is_told_with_its_path(shop: Producer) -> None:
    event_type(
        "cart",
        {
            "type": "object",
            "required": ["id"],
            "properties": {
                "items": {"type": "array", "items": {"properties": {"sku": {"type": "string"}, "n": {"minimum": 1}}}},
                "when": {"format": "date-time"},
            },
        },
    )
    data = {"items": [{"sku": "a", "n": 1}, {"sku": 5, "n": 0}], "when": "later"}
    answer = shop.send({"type": "cart", "data": data})
    refused(answer, 422, "data", "data.items[1].sku", "data.items[1].n", "data.when")
    assert "id" in answer.json()["errors"][0]["message"]
    assert nothing_stored()


def test_data_that_is_missing_is_against_a_schema_that_wants_an_object(shop: Producer) -> None:
    refused(shop.send({"type": "order.paid"}), 422, "data")


def test_a_batch_is_stored_whole_or_not_at_all(shop: Producer) -> None:
    batch = [
        {"type": "order.paid", "data": PAID},
        {"type": "order.paid", "data": {"order_id": 5, "amount": 1}},
        {"type": "nothing"},
        {"type": "order.paid", "data": {}},
    ]
    refused(shop.send(batch), 422, "1.data.order_id", "2.type", "3.data", "3.data")
    assert nothing_stored()


def test_dataschema_picks_a_version_else_the_latest_counts(shop: Producer) -> None:
    event_type("v", {"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "number"}}})
    new, old = {"a": 1}, {"a": "x"}
    assert shop.send({"type": "v", "data": new}).status_code == 202
    refused(shop.send({"type": "v", "data": old}), 422, "data.a")
    for name in ("1", "v1", "https://example.com/schemas/v/1", "/schemas/v/1/"):
        assert shop.send({"type": "v", "data": old, "dataschema": name}).status_code == 202, name
        refused(shop.send({"type": "v", "data": new, "dataschema": name}), 422, "data.a")
    for name in ("3", "0", "latest", "https://example.com/schemas/v", "١"):
        problem = refused(shop.send({"type": "v", "data": new, "dataschema": name}), 422, "dataschema")
        assert "it has: 1, 2" in problem["detail"]


def test_a_new_version_counts_at_once_for_what_the_old_one_refused(shop: Producer) -> None:
    looser = {"type": "object"}
    refused(shop.send({"type": "order.paid", "data": {}}), 422, "data", "data")
    with transaction.atomic():
        EventType.objects.get(name="order.paid").add_schema(looser)
    assert shop.send({"type": "order.paid", "data": {}}).status_code == 202


def test_a_type_can_be_sent_the_moment_it_is_made(shop: Producer) -> None:
    refused(shop.send({"type": "fresh"}), 422, "type")
    event_type("fresh")
    assert shop.send({"type": "fresh"}).status_code == 202


def test_a_schema_can_refuse_everything(shop: Producer) -> None:
    event_type("never", ORDER)
    refused(shop.send({"type": "never", "data": [1]}), 422, "data")


# --- 429 -------------------------------------------------------------------------------------------------------------


def test_over_the_rate_limit_the_answer_is_429_with_retry_after(shop: Producer) -> None:
    Source.objects.update(rate_limit="5/h")
    catalogue_is_asked_again(shop)
    assert [shop.send({"type": "note"}).status_code for _ in range(5)] == [202] * 5
    answer = shop.send({"type": "note"})
    refused(answer, 429)
    assert 600 <= int(answer.headers["Retry-After"]) <= 721
    assert Event.objects.count() == 5


def test_a_batch_costs_as_many_as_it_has_and_may_be_larger_than_the_limit(shop: Producer) -> None:
    Source.objects.update(rate_limit="4/m")
    catalogue_is_asked_again(shop)
    assert shop.send([{"type": "note"}] * 10).status_code == 202
    answer = shop.send({"type": "note"})
    refused(answer, 429)
    assert int(answer.headers["Retry-After"]) > 60
    Source.objects.update(rate_limit="")
    catalogue_is_asked_again(shop)
    assert shop.send({"type": "note"}).status_code == 202
