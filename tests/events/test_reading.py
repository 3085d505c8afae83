"""Reading events back: one, lists, and any JSON as it was sent."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.models import Event
from project.identifiers import first_uid_at
from tests.events.conftest import PAID, Producer


def stored(n: int, **values: Any) -> Event:
    if "received_at" in values:
        values["uid"] = first_uid_at(values["received_at"])
    return Event.objects.create(
        **{
            "source": "/shop",
            "event_id": str(n),
            "type": "note",
            "time": datetime(2026, 1, 1, tzinfo=UTC),
            "data": {"n": n},
            **values,
        }
    )


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in answer.json()["results"]]


def test_an_event_is_read_as_a_cloud_event(shop: Producer) -> None:
    told = shop.send({"type": "order.paid", "data": PAID, "subject": "A-1", "time": "2026-01-31T12:00:00Z"}).json()
    answer = shop.get(f"/{told['uid']}")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {
        "specversion": "1.0",
        "id": told["id"],
        "source": "/shop",
        "type": "order.paid",
        "subject": "A-1",
        "time": "2026-01-31T12:00:00Z",
        "uid": told["uid"],
        "data": PAID,
    }


def test_a_list_is_newest_first_and_tells_what_matters(shop: Producer) -> None:
    sent = [shop.send({"type": "note", "id": str(n), "data": {"n": n}}).json() for n in range(3)]
    answer = shop.get()
    assert ids(answer) == ["2", "1", "0"]
    first = answer.json()["results"][0]
    assert first["uid"] == sent[2]["uid"]
    assert first.keys() == {"uid", "id", "source", "type", "subject", "time", "received_at", "routed_at", "data"}
    assert first["routed_at"] is None


def test_a_list_is_filtered(shop: Producer) -> None:
    now = timezone.now()
    stored(1, type="order.paid", subject="A-1", received_at=now - timedelta(hours=3), data={"who": "Ada 100%"})
    stored(2, type="order.shipped", source="/shop/eu", received_at=now - timedelta(hours=2), data={"who": "Grüße_x"})
    stored(3, type="orders", source="/shopping", received_at=now - timedelta(hours=1), data={"who": ["Ada", "Bob"]})
    stored(4, type="note", source="/warehouse", subject="A-2")
    assert ids(shop.get(type="order.paid")) == ["1"]
    assert ids(shop.get(type="order.*")) == ["2", "1"]
    assert ids(shop.get(type="*")) == ["4", "3", "2", "1"]
    assert ids(shop.get(type="order.%")) == []
    assert ids(shop.get(source="shop")) == ids(shop.get(source="/shop")) == ["2", "1"]
    assert ids(shop.get(source="/shop/eu")) == ["2"]
    assert ids(shop.get(subject="A-2")) == ["4"]
    assert ids(shop.get(since=(now - timedelta(hours=2)).isoformat())) == ["4", "3", "2"]
    assert ids(shop.get(until=(now - timedelta(hours=2)).isoformat())) == ["1"]
    assert ids(shop.get(since=(now - timedelta(hours=2)).isoformat(), until=now.isoformat(), type="order.*")) == ["2"]
    assert ids(shop.get(q="ada")) == ["3", "1"]
    assert ids(shop.get(q="Ada bob")) == ["3"]
    assert ids(shop.get(q="100%")) == ["1"]
    assert ids(shop.get(q="grüße_")) == ["2"]
    assert ids(shop.get(q="a-2")) == ["4"]
    assert ids(shop.get(q="nobody")) == []
    assert ids(shop.get(q="")) == ["4", "3", "2", "1"]
    assert ids(shop.get(q="type:order.* ada")) == ids(shop.get(q="subject:A-1")) == ["1"]
    assert ids(shop.get(q='"type:order"')) == []
    assert ids(shop.get(until="9999-12-31T23:59:59Z", since="0001-01-01T00:00:00Z", q="100%")) == ["1"]


def test_a_search_that_takes_long_goes_on_where_it_stopped(shop: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(12):
        stored(n, data={"word": "needle" if n in (0, 7) else "hay"})
    monkeypatch.setattr("project.searching.FIRST_STEP", 3)
    monkeypatch.setattr("project.searching.PATIENCE", -1)
    answer = shop.get(q="needle")
    pages = [ids(answer)]
    while address := answer.json()["next"]:
        answer = shop.session.get(address, timeout=30)
        pages.append(ids(answer))
    assert pages == [[], ["7"], [], ["0"], []]
    foreign = shop.get().json()["previous"]
    assert foreign is None
    assert shop.get(q="needle", cursor=base64.b64encode(b"r=1&p=x").decode()).status_code == 400


def test_any_offset_is_understood(shop: Producer) -> None:
    """PostgreSQL itself knows none of 16 hours or more."""
    stored(1)
    assert ids(shop.get(since="2020-01-01T00:00:00-19:57")) == ["1"]


def test_pages_follow_each_other_while_events_come_in(shop: Producer) -> None:
    for n in range(7):
        stored(n)
    first = shop.get(limit=3)
    assert ids(first) == ["6", "5", "4"]
    assert first.json()["previous"] is None
    stored(7)
    second = shop.session.get(first.json()["next"], timeout=30)
    assert ids(second) == ["3", "2", "1"]
    third = shop.session.get(second.json()["next"], timeout=30)
    assert ids(third) == ["0"]
    assert third.json()["next"] is None
    assert ids(shop.session.get(third.json()["previous"], timeout=30)) == ["3", "2", "1"]


def test_a_page_has_50_and_at_most_200(shop: Producer) -> None:
    Event.objects.bulk_create(
        Event(source="/shop", event_id=str(n), type="note", time=timezone.now()) for n in range(201)
    )
    assert len(ids(shop.get())) == 50
    assert len(ids(shop.get(limit=200))) == 200


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": ""}, "limit"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01"}, "since"),
        ({"since": ""}, "since"),
        ({"since": "2026-01-01T00:00:00-24:00"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"until": "2026-13-01T00:00:00Z"}, "until"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "ü"}, "cursor"),
        ({"cursor": base64.b64encode(b"p=nonsense").decode()}, "cursor"),
        ({"cursor": base64.b64encode(b"o=-1").decode()}, "cursor"),
        ({"colour": "red"}, "colour"),
        ({"q": "\0"}, "q"),
        ({"type": "a\0"}, "type"),
        ({"type": ""}, "type"),
        ({"source": ""}, "source"),
        ({"q": "a b c d e f g h i j k"}, "q"),
        ({"q": "colour:red"}, "q"),
        ({"q": '"open'}, "q"),
        ({"q": "uid:x"}, "q"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(shop: Producer, parameters: dict[str, Any], path: str) -> None:
    stored(1)
    answer = shop.get(**parameters)
    assert answer.status_code == 400, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [error["path"] for error in answer.json()["errors"]] == [path]


def test_format_is_no_parameter(shop: Producer) -> None:
    """REST framework would take it for a way to choose the media type."""
    assert shop.get(format="xml").status_code == 400


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), inner, max_size=5
        )
    ),
    max_leaves=20,
)


def same(sent: Any, back: Any) -> bool:
    """Whether two JSON values are the same; numbers, when they are the same double, which is what JSON promises."""
    match sent:
        case dict():
            return isinstance(back, dict) and sent.keys() == back.keys() and all(same(sent[k], back[k]) for k in sent)
        case list():
            return isinstance(back, list) and len(sent) == len(back) and all(map(same, sent, back))
        case bool() | None:
            return sent is back
        case int():
            return isinstance(back, int) and not isinstance(back, bool) and sent == back
        case float():
            return isinstance(back, int | float) and not isinstance(back, bool) and math.isclose(sent, back, rel_tol=0)
    return bool(sent == back)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(json_values, min_size=1, max_size=4))
def test_any_json_is_read_back_as_it_was_sent(shop: Producer, values: list[Any]) -> None:
    answer = shop.send_bytes(json.dumps([{"type": "note", "data": value} for value in values]))
    assert answer.status_code == 202, answer.text
    for value, event in zip(values, answer.json()["events"], strict=True):
        back = shop.get(f"/{event['uid']}")
        assert back.status_code == 200, back.text
        assert same(value, back.json()["data"]), (value, back.text)


def test_large_doubles_are_read_back(shop: Producer) -> None:
    """PostgreSQL writes 1e25 as an integer with 26 digits."""
    for number in (1e16, 1e25, -1e300, 1.7976931348623157e308, 5e-324):
        uid = shop.send({"type": "note", "data": {"n": number}}).json()["uid"]
        for path in (f"/{uid}", f"/{uid}/trace"):
            assert shop.get(path).status_code == 200
        assert float(shop.get(f"/{uid}").json()["data"]["n"]) == number
        assert ids(shop.get())[0]
