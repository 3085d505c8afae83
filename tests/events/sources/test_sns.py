"""Amazon SNS: whom a message is believed, and how a subscription is confirmed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from django.utils import timezone

from events.models import Event, EventType
from events.sources import sns
from tests.events.sources import amazon
from tests.events.sources.conftest import Caller, refused, stored
from tests.sinks import Answer, HttpSink

pytestmark = [pytest.mark.django_db, pytest.mark.parametrize("caller", ["sns"], indirect=True)]

SUBSCRIBE: Final = "https://sns.us-east-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37"


def message(caller: Caller, **changed: Any) -> dict[str, Any]:
    return {**json.loads(caller.vendor.payload.read_bytes()), **changed}


def send(caller: Caller, given: dict[str, Any]) -> Any:
    return caller.send(json.dumps(given).encode(), {"Content-Type": "text/plain; charset=UTF-8"})


def signed(caller: Caller, version: str = "2", **changed: Any) -> dict[str, Any]:
    amazon.signed(b"", timezone.now())  # so that the certificate is known
    given: dict[str, Any] = json.loads(amazon.sign(message(caller, **changed), timezone.now(), version))
    return given


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_versions_of_signatures_hold(caller: Caller, version: str) -> None:
    event = stored(send(caller, signed(caller, version)))
    assert event.data["Message"] == "Hello world"
    assert not {"Signature", "SigningCertURL", "UnsubscribeURL"} & event.data.keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {"TopicArn": "arn:aws:sns:us-east-2:666666666666:mine"},
        {"Message": "Hello wor1d"},
        {"Subject": "added"},
        {"Type": "SubscriptionConfirmation"},
        {"Type": "Other"},
        {"SignatureVersion": "1"},
        {"SignatureVersion": "3"},
        {"Signature": "bad"},
        {"Signature": None},
        {"Timestamp": "2022-07-28T21:24:08.324Z"},
        {"SigningCertURL": "http://sns.us-east-2.amazonaws.com/x.pem"},
        {"SigningCertURL": "https://sns.us-east-2.amazonaws.com.example.com/x.pem"},
        {"SigningCertURL": "https://sns.us-east-2.amazonaws.com@example.com/x.pem"},
        {"SigningCertURL": "https://example.com/sns.us-east-2.amazonaws.com/x.pem"},
        {"SigningCertURL": "https://s3.us-east-2.amazonaws.com/bucket/x.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/x.pem"},
        {"SigningCertURL": "https://sns.us-east-2.amazonaws.com:8443/x.pem"},
        {"SigningCertURL": "https://sns.us-east-2.amazonaws.com/x.key"},
        {"SigningCertURL": "https://[::1"},
        {"SigningCertURL": 5},
    ],
    ids=lambda wrong: str(wrong)[:70],
)
def test_what_is_not_amazons_is_refused(caller: Caller, wrong: dict[str, Any]) -> None:
    refused(send(caller, signed(caller) | wrong), 401)


def test_a_certificate_that_has_expired_is_refused(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon, "datetime", Before)
    amazon.certificate.cache_clear()
    try:
        given = signed(caller)
    finally:
        amazon.certificate.cache_clear()
    assert "expired" in refused(send(caller, given), 401)["detail"]


class Before(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Before:
        return cls(2020, 1, 1, tzinfo=UTC)


def test_what_is_at_the_address_may_be_no_certificate(caller: Caller) -> None:
    given = signed(caller)
    sns.certificates[amazon.URL] = b"no certificate"
    refused(send(caller, given), 401)


def test_a_message_that_is_json_can_be_an_event_of_ones_own(caller: Caller) -> None:
    EventType.objects.create(name="order.paid")
    caller.source.settings |= {"type": "order.paid"}
    caller.source.full_clean()
    caller.source.save()
    event = stored(send(caller, signed(caller, Message='{"order_id": "A-1001"}', Subject="Paid")))
    assert (event.type, event.data, event.subject) == ("order.paid", {"order_id": "A-1001"}, "Paid")


# --- subscriptions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def amazons(http_sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> HttpSink:
    """What is asked of Amazon arrives at our sink; everything before that is as it is."""
    ask = sns._ask
    monkeypatch.setattr(sns, "_ask", lambda url: ask(http_sink.url("/?" + url.partition("?")[2])))
    return http_sink


def subscription(caller: Caller, **changed: Any) -> dict[str, Any]:
    about = {"Type": "SubscriptionConfirmation", "Token": "2336412f37", "SubscribeURL": SUBSCRIBE}
    return signed(caller, **about, **changed)


def test_a_subscription_is_confirmed_at_its_address(caller: Caller, amazons: HttpSink) -> None:
    answer = send(caller, subscription(caller))
    assert (answer.status_code, json.loads(answer.content)) == (
        200,
        {"subscribed": caller.source.settings["topics"][0]},
    )
    (request,) = amazons.wait_for(1)
    assert (request.method, request.path) == ("GET", "/?Action=ConfirmSubscription&Token=2336412f37")
    assert not Event.objects.exists()


def test_a_subscription_of_another_topic_is_not_confirmed(caller: Caller, amazons: HttpSink) -> None:
    refused(send(caller, subscription(caller, TopicArn="arn:aws:sns:us-east-2:666666666666:mine")), 401)
    given = subscription(caller)
    refused(send(caller, given | {"SubscribeURL": "https://example.com/"}), 401)
    assert amazons.requests == []


def test_a_subscription_that_leads_elsewhere_is_not_confirmed(caller: Caller, amazons: HttpSink) -> None:
    """Although it is signed."""
    about = {"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "https://169.254.169.254/latest"}
    refused(send(caller, signed(caller, **about)), 400)
    assert amazons.requests == []


def test_while_amazon_cannot_be_reached_it_is_asked_to_try_again(caller: Caller, amazons: HttpSink) -> None:
    amazons.answers["/?Action=ConfirmSubscription&Token=2336412f37"] = [Answer(500, b"no")]
    answer = send(caller, subscription(caller))
    refused(answer, 503)
    assert answer["Retry-After"] == "20"
    amazons.stop()
    refused(send(caller, subscription(caller)), 503)


def test_the_guard_of_outgoing_calls_decides(caller: Caller, amazons: HttpSink, settings: Any) -> None:
    settings.OUTBOUND_ALLOW = []
    assert "OUTBOUND_ALLOW" in refused(send(caller, subscription(caller)), 503)["detail"]
    assert amazons.requests == []


def test_forged_messages_do_not_make_all_threads_wait(caller: Caller) -> None:
    given = signed(caller) | {"SigningCertURL": amazon.URL.replace("of-the-tests", "unknown")}
    sns._asking.acquire()
    sns._asking.acquire()
    try:
        refused(send(caller, given), 503)
    finally:
        sns._asking.release()
        sns._asking.release()


def test_an_end_of_a_subscription_is_only_noticed(caller: Caller) -> None:
    answer = send(caller, signed(caller, Type="UnsubscribeConfirmation", Token="t", SubscribeURL=SUBSCRIBE))
    assert answer.status_code == 200
    assert not Event.objects.exists()


def test_topics_are_arns(caller: Caller) -> None:
    assert adapters_problems({"topics": []}) == ["topics"]
    assert adapters_problems({"topics": ["orders"]}) == ["topics"]
    assert adapters_problems({}) == ["topics"]


def adapters_problems(settings: dict[str, Any]) -> list[str]:
    return [path for path, _ in sns.Sns.problems(settings)]
