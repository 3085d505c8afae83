"""The API tries subscriptions and expressions as the router does."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from events.models import Subscription
from project.scopes import Scope
from tests.events.conftest import Producer
from tests.events.test_dry_run import store, workflow

pytestmark = pytest.mark.django_db(transaction=True)


def post(shop: Producer, path: str, body: Any = None) -> Any:
    return shop.session.post(shop.url.replace("/events", path), json=body, timeout=30)


@pytest.fixture
def large(shop: Producer) -> Subscription:
    store(5)
    filter_ = "event.data.n > 2 || event.data.gone"
    return Subscription.objects.create(name="large", types=["note"], workflow=workflow(), filter=filter_)


class TestDryRun:
    def test_it_tells_what_would_match_and_why(self, shop: Producer, large: Subscription) -> None:
        answer = post(shop, "/subscriptions/large/dry-run").json()
        assert (answer["subscription"], answer["enabled"], answer["next"]) == ("large", True, None)
        assert answer["counts"] == {"matched": 2, "error": 3}
        assert [each["verdict"] for each in answer["events"]] == ["matched", "matched", "error", "error", "error"]
        assert answer["events"][2]["reason"] == "no such key: gone"
        assert set(answer["events"][0]) == {
            *("uid", "id", "source", "type", "subject", "received_at", "verdict"),
        }

    def test_it_goes_on_where_it_ended(self, shop: Producer, large: Subscription) -> None:
        seen: list[str] = []
        body: dict[str, Any] = {"limit": 2}
        for _ in range(3):
            answer = post(shop, "/subscriptions/large/dry-run", body).json()
            seen += [each["uid"] for each in answer["events"]]
            body["before"] = answer["next"]
        assert answer["next"] is None
        assert len(set(seen)) == 5
        assert seen == sorted(seen, reverse=True)

    def test_since_bounds_it_and_a_disabled_one_is_asked_all_the_same(
        self, shop: Producer, large: Subscription
    ) -> None:
        store(3, ago=timedelta(days=8))
        Subscription.objects.update(enabled=False, filter="")
        assert post(shop, "/subscriptions/large/dry-run").json()["counts"] == {"matched": 5}
        since = (timezone.now() - timedelta(days=9)).isoformat()
        answer = post(shop, "/subscriptions/large/dry-run", {"since": since}).json()
        assert (answer["enabled"], answer["counts"]) == (False, {"matched": 8})

    def test_what_means_nothing_is_refused(self, shop: Producer, large: Subscription) -> None:
        assert post(shop, "/subscriptions/larg/dry-run").status_code == 404
        assert 'did you mean "large"' in post(shop, "/subscriptions/larg/dry-run").json()["detail"]
        for body in ({"since": "yesterday"}, {"limit": 0}, {"limit": 1001}, {"before": "x"}, {"until": "x"}):
            assert post(shop, "/subscriptions/large/dry-run", body).status_code == 422
        without = Producer(shop.url.partition("/api")[0], shop.source, Scope.CONFIG_READ)
        assert post(without, "/subscriptions/large/dry-run").status_code == 403
        without.session.close()


class TestCheck:
    @pytest.mark.parametrize(
        ("expression", "value", "verdict", "reason"),
        [
            ("event.data.n > 2", True, "matched", ""),
            ("event.data.n > 9", False, "filtered", "event.data.n > 9 is false (event.data.n = 5)"),
            (
                "event.data.list.map(x, x * 2)",
                [2, 4],
                "error",
                "event.data.list.map(x, x * 2) is list, not true or false",
            ),
            ("event.data", {"n": 5, "list": [1, 2]}, "error", "event.data is map, not true or false"),
        ],
    )
    def test_it_gives_the_value(self, shop: Producer, expression: str, value: Any, verdict: str, reason: str) -> None:
        event = {"data": {"n": 5, "list": [1, 2]}}
        answer = post(shop, "/expressions/check", {"expression": expression, "event": event})
        assert answer.json() == {"value": value, "verdict": verdict, "reason": reason, "error": None}

    @pytest.mark.parametrize(
        ("expression", "error"),
        [
            ("event.n >", {"message": "unexpected end", "line": 1, "column": 10}),
            (
                "true &&\n evnt.n",
                {"message": 'unknown variable "evnt", did you mean "event"? known: event', "line": 2, "column": 2},
            ),
            ("event.gone", {"message": "no such key: gone", "line": None, "column": None}),
        ],
    )
    def test_it_gives_the_error_with_its_place(self, shop: Producer, expression: str, error: Any) -> None:
        answer = post(shop, "/expressions/check", {"expression": expression, "event": {"n": 1}}).json()
        assert (answer["value"], answer["verdict"], answer["error"]) == (None, "error", error)

    @pytest.mark.parametrize(
        "expression",
        [
            "event.list.map(x, event.list).size() > 0",
            "event.list.filter(x, x > 1).size() > 0",
            "event.list.all(x, event.list.size() > x)",
            "event.text.split('').map(x, x).size() > 1",
        ],
    )
    def test_what_would_take_long_is_not_tried(self, shop: Producer, expression: str) -> None:
        began = time.monotonic()
        event = {"list": list(range(30_000)), "text": "x" * 30_000}
        refused = post(shop, "/expressions/check", {"expression": expression, "event": event})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["path"] == "event"
        assert time.monotonic() - began < 10
        event = {"list": list(range(100)), "text": "x" * 100}
        assert post(shop, "/expressions/check", {"expression": expression, "event": event}).status_code == 200

    def test_what_means_nothing_is_refused(self, shop: Producer) -> None:
        for body in ({}, {"expression": "true"}, {"expression": "true", "event": 1}, {"expression": 1, "event": {}}):
            assert post(shop, "/expressions/check", body).status_code == 422
        without = Producer(shop.url.partition("/api")[0], shop.source, Scope.EVENTS_READ)
        assert post(without, "/expressions/check", {"expression": "true", "event": {}}).status_code == 403
        without.session.close()
