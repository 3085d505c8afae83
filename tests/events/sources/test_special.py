"""What some vendors do that others do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from events.models import Event, EventType, Source
from tests.events.sources.conftest import Caller, refused, stored
from tests.events.sources.vendors import PAYLOADS, STANDARD_SECRETS, gitlab_signed, gitlab_token

pytestmark = pytest.mark.django_db


def only(*cases: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("caller", cases, indirect=True)


@only("slack")
def test_slack_is_answered_its_challenge_when_it_is_signed(caller: Caller) -> None:
    body = (PAYLOADS / "slack" / "url-verification.json").read_bytes()
    answer = caller.call(body)
    challenge = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    assert (answer.status_code, json.loads(answer.content)) == (200, {"challenge": challenge})
    assert not Event.objects.exists()
    refused(caller.call(body, secret="another"), 401)


@only("slack")
def test_the_old_token_of_slack_is_not_passed_on(caller: Caller) -> None:
    event = stored(caller.call())
    assert "token" not in event.data
    assert event.data["event"]["user"] == "U123ABC456"
    assert event.time.year == 2018


@only("slack")
def test_an_event_of_slack_that_is_no_callback_is_known_by_its_hash(caller: Caller) -> None:
    body = b'{"token": "x", "type": "app_rate_limited", "team_id": "T1", "minute_rate_limited": 1518467820}'
    event = stored(caller.call(body))
    assert (event.type, event.subject, len(event.event_id)) == ("slack.app_rate_limited", "T1", 64)


@only("slack")
def test_a_retry_of_slack_is_a_duplicate(caller: Caller) -> None:
    stored(caller.call())
    assert caller.call(changed={"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}).status_code == 200


@only("gitlab")
def test_gitlab_changes_from_a_token_to_signatures(caller: Caller) -> None:
    caller.source.secret, caller.source.previous_secret = STANDARD_SECRETS[0], caller.vendor.secret
    caller.source.full_clean()
    caller.source.save()
    stored(caller.call())
    assert caller.call(prove=gitlab_signed, secret=STANDARD_SECRETS[0]).status_code == 200
    caller.source.previous_secret = ""
    caller.source.save()
    assert caller.call().status_code == 401
    # Nor is a signing token any good as a token.
    assert caller.call(prove=gitlab_token, secret=STANDARD_SECRETS[0]).status_code == 401


@only("gitlab")
def test_without_an_idempotency_key_gitlab_is_known_by_its_hash(caller: Caller) -> None:
    first = stored(caller.call(changed={"Idempotency-Key": None, "X-Gitlab-Event-UUID": "1"}))
    assert len(first.event_id) == 64
    assert caller.call(changed={"Idempotency-Key": None, "X-Gitlab-Event-UUID": "2"}).status_code == 200


@only("pagerduty")
def test_a_ping_of_pagerduty_brings_nothing(caller: Caller) -> None:
    body = b'{"event": {"id": "1", "event_type": "pagey.ping", "data": {"message": "Hello from your friend Pagey!"}}}'
    assert caller.call(body).status_code == 200
    assert not Event.objects.exists()


@only("bitbucket")
def test_a_ping_of_bitbucket_brings_nothing(caller: Caller) -> None:
    assert caller.call(b'{"test": true}', changed={"X-Event-Key": "diagnostics:ping"}).status_code == 200
    assert not Event.objects.exists()


@only("bitbucket")
def test_the_same_body_about_something_else_is_another_event(caller: Caller) -> None:
    stored(caller.call())
    event = stored(caller.call(changed={"X-Event-Key": "repo:other"}))
    assert event.type == "bitbucket.repo.other"


@only("alertmanager")
def test_a_repeated_notification_is_a_duplicate_and_a_changed_one_is_not(caller: Caller) -> None:
    stored(caller.call())
    group = json.loads(caller.vendor.body)
    assert caller.call(json.dumps(group, indent=1).encode()).status_code == 200  # written in another way
    resolved = {**group, "status": "resolved", "alerts": [{**alert, "status": "resolved"} for alert in group["alerts"]]}
    stored(caller.call(json.dumps(resolved).encode()))
    assert Event.objects.count() == 2


@only("alertmanager", "alertmanager by basic")
def test_who_shows_no_password_is_told_which(caller: Caller) -> None:
    answer = caller.call(changed={"Authorization": None})
    refused(answer, 401)
    assert answer["WWW-Authenticate"].split()[0] in ("Bearer", "Basic")
    assert ("Basic" in answer["WWW-Authenticate"]) == ("user" in caller.source.settings)


@only("standard")
def test_an_unknown_type_of_a_stranger_is_refused(caller: Caller) -> None:
    EventType.objects.filter(name="crm.contact.created").delete()
    assert "crm.contact.created" in refused(caller.call(), 422)["detail"]


@only("standard")
def test_what_stands_beside_the_type_is_the_data_where_there_is_none(caller: Caller) -> None:
    caller.source.settings = {}
    caller.source.save()
    EventType.objects.create(name="flat")
    assert stored(caller.call(b'{"type": "flat", "n": 1}')).data == {"type": "flat", "n": 1}


@only("stripe")
def test_an_event_of_stripe_that_is_not_listed_brings_its_type(caller: Caller) -> None:
    body = caller.vendor.body.replace(b'"invoice.paid"', b'"treasury.credit_reversal.created"')
    assert stored(caller.call(body)).type == "stripe.treasury.credit_reversal.created"


@only("hmac", "token", "basic")
def test_a_setting_without_a_value_says_which(caller: Caller) -> None:
    problem = refused(caller.call(b'{"no": "order"}'), 400)
    assert [fault["path"] for fault in problem["errors"]] == ["id"]
    assert "order_id" in problem["detail"]


@only("token")
def test_a_form_is_read_too(caller: Caller) -> None:
    event = stored(
        caller.call(b"order_id=A-1&who=Ada&who=Bob", changed={"Content-Type": "application/x-www-form-urlencoded"})
    )
    assert event.data == {"order_id": "A-1", "who": "Ada"}


@only("token")
def test_data_may_be_a_part_of_the_body_and_the_time_its_own(caller: Caller) -> None:
    caller.source.settings |= {"id": "", "subject": "", "data": "${{ body.order }}", "time": "${{ body.at }}"}
    caller.source.save()
    event = stored(caller.call(b'{"order": [1, "2"], "at": "2026-01-31T12:00:00Z"}'))
    assert (event.data, event.time.isoformat(), event.subject) == ([1, "2"], "2026-01-31T12:00:00+00:00", "")


@pytest.mark.parametrize(
    ("adapter", "settings", "field"),
    [
        ("hmac", {"header": "X-S", "type": "t", "signs": "nothing"}, "settings"),
        ("hmac", {"header": "X-S", "type": "t", "timestamp_header": "X-T"}, "settings"),
        ("hmac", {"header": "X-S", "type": "t", "secret_encoding": "hex"}, "secret"),
        ("hmac", {"header": "X-S", "type": "t", "secret_encoding": "base64"}, "secret"),
        ("hmac", {"header": "X-S", "type": "t", "algorithm": "md5"}, "settings"),
        ("hmac", {"header": "X-S", "type": "${{ headers['x' }}"}, "settings"),
        ("hmac", {"type": "t"}, "settings"),
        ("standard", {}, "secret"),
        ("grafana", {"by": "basic"}, "settings"),
        ("grafana", {"user": "ada"}, "settings"),
        ("basic", {"type": "t"}, "settings"),
    ],
)
def test_wrong_settings_are_refused_when_they_are_saved(adapter: str, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        Source(name="s", adapter=adapter, secret="no hex, no base64!", settings=settings).full_clean()
    assert list(error.value.message_dict) == [field]


@only("slack")
def test_a_subject_that_tells_much_is_cut_and_the_event_taken(caller: Caller) -> None:
    body = json.loads(caller.vendor.body)
    body["event"]["channel"] = "é" * 1000
    assert stored(caller.call(json.dumps(body).encode())).subject == "é" * 250


@only("slack")
def test_an_id_that_is_too_long_is_refused(caller: Caller) -> None:
    body = {**json.loads(caller.vendor.body), "event_id": "x" * 201}
    refused(caller.call(json.dumps(body).encode()), 400)
