"""Who is told, by which channel, when, in what words, or why not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.compose import ComposeError, Request, compose
from notifications.models import Channel, Delivery, Recipient, Template
from notifications.preferences import quiet_until

pytestmark = pytest.mark.django_db

EVENT = {"type": "order.paid", "id": "7", "data": {"order_id": "A-7", "amount": 129.0}}
CONTEXT = {"event": EVENT, "steps": {}, "run": {"id": "r"}}


@pytest.fixture(autouse=True)
def _configuration() -> None:
    Channel.objects.create(name="mail", type="email", default=True)
    Channel.objects.create(name="ops-chat", type="slack", settings={"url": "https://example.com/chat"})
    Channel.objects.create(name="hook", type="webhook", settings={"url": "https://example.com/hook"})
    Template.objects.create(
        name="paid",
        subject="Order {{ event.data.order_id }}\npaid",
        text="{{ event.data.amount }} paid, {{ note | default: 'no note' }}.",
        html="<p>{{ note | default: '' }}</p>",
        languages={"de": {"subject": "Bestellung {{ event.data.order_id }} bezahlt"}},
    )
    Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"}, topics=["on-call"])
    Recipient.objects.create(name="bob", addresses={"email": "bob@example.com"}, topics=["on-call"], language="de-AT")


def ask(*to: str, **fields: Any) -> Request:
    return Request(**{"origin": uuid4(), "to": to, "template": "paid", "context": CONTEXT, **fields})


def told(*to: str, **fields: Any) -> list[Delivery]:
    (rows,) = compose([ask(*to, **fields)])
    return [Delivery.objects.get(uid=row.uid) for row in rows]


def facts(rows: list[Delivery]) -> list[tuple[str, str, str]]:
    return [(row.channel.name, row.to, row.state) for row in rows]


def test_a_channel_is_told_where_it_leads() -> None:
    assert facts(told("channel:ops-chat")) == [("ops-chat", "", "pending")]


def test_a_recipient_is_told_at_their_address_by_the_default_channel() -> None:
    (row,) = told("recipient:ada")
    assert facts([row]) == [("mail", "ada@example.com", "pending")]
    assert (row.kind, row.recipient and row.recipient.name, row.template) == ("email", "ada", "paid")


def test_a_topic_that_nobody_has_does_not_keep_it_from_the_others() -> None:
    assert [row.to for row in told("topic:nobody", "recipient:ada")] == ["ada@example.com"]


def test_a_topic_is_everybody_who_hears_of_it() -> None:
    assert {row.to for row in told("topic:on-call")} == {"ada@example.com", "bob@example.com"}


def test_an_address_is_carried_by_its_kinds_default_channel() -> None:
    assert facts(told("email:x@example.com")) == [("mail", "x@example.com", "pending")]
    assert facts(told("x@example.com")) == [("mail", "x@example.com", "pending")]


def test_a_channel_can_be_named_for_recipients_and_addresses() -> None:
    Channel.objects.create(name="other-mail", type="email")
    rows = told("recipient:ada", "email:x@example.com", channel="other-mail")
    assert facts(rows) == [("other-mail", "ada@example.com", "pending"), ("other-mail", "x@example.com", "pending")]


def test_whoever_is_named_twice_is_told_once() -> None:
    rows = told("recipient:ada", "topic:on-call", "email:ada@example.com", "ada@example.com")
    assert [row.to for row in rows] == ["ada@example.com", "bob@example.com"]


def test_a_channel_with_an_address_of_its_own_is_told_there() -> None:
    Channel.objects.create(name="ops-mail", type="email", settings={"to": "ops@example.com"})
    assert facts(told("channel:ops-mail")) == [("ops-mail", "ops@example.com", "pending")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"to": ["channel:ops-caht"]},
            'unknown channel "ops-caht", did you mean "ops-chat"? known: hook, mail, ops-chat',
        ),
        ({"to": ["recipient:adda"]}, 'unknown recipient "adda", did you mean "ada"? known: ada, bob'),
        (
            {"to": ["topic:on-cal"]},
            'nobody hears of it: unknown topic "on-cal", did you mean "on-call"? known: on-call',
        ),
        ({"to": []}, "`to` names nobody; write for example channel:NAME, recipient:NAME or topic:NAME"),
        (
            {"to": ["pigeon:coop"]},
            '"pigeon:coop" is no target; write channel:NAME, recipient:NAME, topic:NAME, or email:ADDRESS',
        ),
        ({"to": ["ada"]}, '"ada" is no target; write channel:NAME, recipient:NAME, topic:NAME, or email:ADDRESS'),
        ({"to": ["email:ada"]}, '"ada" is not an e-mail address'),
        (
            {"to": ["webhook:https://example.com"]},
            "a channel of type webhook knows itself where to go; write channel:NAME",
        ),
        (
            {"to": ["email:x@example.com"], "channel": "hook"},
            "channel hook is of type webhook and cannot carry email:x@example.com",
        ),
        (
            {"to": ["channel:mail"]},
            "channel mail has no address of its own: set `to` in its settings, or name a recipient or email:ADDRESS "
            "and give `channel: mail`",
        ),
        ({"template": "piad"}, 'unknown template "piad", did you mean "paid"? known: paid'),
        ({"template": ""}, "channel ops-chat (slack) sends text, so it needs a template; known: paid"),
        ({"priority": "urgent"}, 'unknown priority "urgent"; known: low, normal, high, critical'),
        ({"context": {"event": {}}}, "template paid, subject, line 1: event.data is undefined"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_stored(fields: dict[str, Any], message: str) -> None:
    good = ask("channel:ops-chat")
    with pytest.raises(ComposeError) as refused:
        compose([good, ask(*fields.pop("to", ["channel:ops-chat"]), **fields)])
    assert str(refused.value) == message
    assert not Delivery.objects.exists()


def test_each_kind_of_channel_gets_its_parts_of_the_message() -> None:
    chat, mail, hook = told("channel:ops-chat", "recipient:ada", "channel:hook", data={"note": "<b>"})
    words = {"type": "order.paid", "subject": "Order A-7 paid", "text": "129.0 paid, <b>."}
    assert chat.message == words
    assert mail.message == {**words, "html": "<p>&lt;b&gt;</p>"}
    assert hook.message == {"type": "order.paid", "data": {"note": "<b>"}}


def test_a_webhook_gets_the_event_unless_data_is_given_and_needs_no_template() -> None:
    (row,) = told("channel:hook", template="")
    assert row.message == {"type": "order.paid", "data": EVENT}


def test_a_recipient_reads_their_language_and_what_is_not_translated_in_the_base() -> None:
    (row,) = told("recipient:bob")
    assert row.message["subject"] == "Bestellung A-7 bezahlt"
    assert row.message["text"] == "129.0 paid, no note."


def test_a_template_with_only_html_still_has_a_text() -> None:
    Template.objects.create(name="page", html="<p>Hello <b>there</b></p>")
    (row,) = told("recipient:ada", template="page")
    assert row.message == {"type": "order.paid", "text": "Hello there", "html": "<p>Hello <b>there</b></p>"}


def test_who_does_not_want_a_category_by_a_kind_is_skipped_with_the_reason() -> None:
    Recipient.objects.filter(name="ada").update(preferences={"marketing": {"email": False}})
    (row,) = told("recipient:ada", category="marketing")
    assert (row.state, row.reason, row.due_at) == ("skipped", "recipient ada wants no marketing by email", None)
    assert facts(told("recipient:ada", category="orders")) == [("mail", "ada@example.com", "pending")]


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda: Recipient.objects.filter(name="ada").update(enabled=False), "recipient ada is disabled"),
        (lambda: Recipient.objects.filter(name="ada").update(addresses={}), "recipient ada has no address for email"),
        (
            lambda: Recipient.objects.filter(name="ada").update(addresses={"email": "ada"}),
            'recipient ada: "ada" is not an e-mail address',
        ),
        (lambda: Channel.objects.filter(name="mail").update(enabled=False), "channel mail is disabled"),
        (
            lambda: Channel.objects.filter(name="mail").update(rate_limit="fast"),
            'channel mail is not set up right: "fast" is not a rate; write for example 500/s, 30/m or 1000/h',
        ),
    ],
)
def test_what_cannot_reach_one_of_many_is_skipped_with_the_reason(break_it: Callable[[], Any], reason: str) -> None:
    break_it()
    rows = told("recipient:ada", "channel:ops-chat")
    assert [(row.state, row.reason) for row in rows] == [("skipped", reason), ("pending", "")]


def test_two_recipients_without_an_address_are_two_rows() -> None:
    Recipient.objects.update(addresses={})
    assert [row.to for row in told("topic:on-call")] == ["recipient:ada", "recipient:bob"]


def test_a_disabled_channels_fallback_stands_in() -> None:
    Channel.objects.filter(name="ops-chat").update(enabled=False, fallback=Channel.objects.get(name="hook"))
    skipped, stand_in = told("channel:ops-chat")
    assert (skipped.state, skipped.reason) == ("skipped", "channel ops-chat is disabled; hook stands in")
    assert (stand_in.state, stand_in.channel.name, stand_in.instead_of) == ("pending", "hook", skipped.uid)


def test_quiet_hours_put_off_what_is_not_critical() -> None:
    now = timezone.now()
    quiet = {"from": (now - timedelta(hours=1)).strftime("%H:%M"), "to": (now + timedelta(hours=2)).strftime("%H:%M")}
    Recipient.objects.filter(name="ada").update(quiet_hours=quiet)
    (later,) = told("recipient:ada")
    (at_once,) = told("recipient:ada", priority="critical")
    assert later.due_at is not None
    assert at_once.due_at is not None
    assert timedelta(minutes=110) < later.due_at - now < timedelta(minutes=125)
    assert at_once.due_at - now < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("hours", "zone", "now", "until"),
    [
        (("22:00", "07:00"), "UTC", "2026-01-10T23:00", "2026-01-11T07:00"),
        (("22:00", "07:00"), "UTC", "2026-01-10T06:59", "2026-01-10T07:00"),
        (("22:00", "07:00"), "UTC", "2026-01-10T07:00", None),
        (("12:00", "13:00"), "UTC", "2026-01-10T12:30", "2026-01-10T13:00"),
        (("12:00", "13:00"), "UTC", "2026-01-10T13:30", None),
        (("22:00", "07:00"), "America/New_York", "2026-01-10T02:00", None),
        (("22:00", "07:00"), "America/New_York", "2026-01-10T04:00", "2026-01-10T12:00"),
        # the night in which Berlin's clocks are put forward is an hour shorter
        (("22:00", "07:00"), "Europe/Berlin", "2026-03-28T22:00", "2026-03-29T05:00"),
        (("12:00", "12:00"), "UTC", "2026-01-10T12:00", None),
        (("late", "early"), "UTC", "2026-01-10T12:00", None),
        (("22:00", "07:00"), "Mars/Base", "2026-01-10T23:00", None),
    ],
)
def test_quiet_hours_end_by_the_recipients_clock(
    hours: tuple[str, str], zone: str, now: str, until: str | None
) -> None:
    end = quiet_until(dict(zip(("from", "to"), hours, strict=True)), zone, datetime.fromisoformat(f"{now}+00:00"))
    assert (end and end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")) == until


def test_the_same_step_twice_makes_no_second_delivery() -> None:
    request = ask("recipient:ada", "channel:hook")
    (first,) = compose([request])
    (second,) = compose([request])
    assert [row.uid for row in first] == [row.uid for row in second]
    assert Delivery.objects.count() == 2


def test_a_second_notification_with_the_same_key_is_skipped_and_names_the_first() -> None:
    (first,) = told("recipient:ada", dedupe_key="disk-full")
    (again, elsewhere) = told("recipient:ada", "recipient:bob", dedupe_key="disk-full")
    assert (again.state, elsewhere.state) == ("skipped", "pending")
    assert (
        again.reason
        == f'a duplicate of delivery {first.uid}, which had the dedupe key "disk-full" within the last hour'
    )
    assert again.message == {}


def test_a_key_is_free_again_after_an_hour_and_after_a_failure() -> None:
    told("recipient:ada", dedupe_key="disk-full")
    Delivery.objects.update(created_at=timezone.now() - timedelta(minutes=61))
    assert told("recipient:ada", dedupe_key="disk-full")[0].state == "pending"
    Delivery.objects.update(state="failed")
    assert told("recipient:ada", dedupe_key="disk-full")[0].state == "pending"


def test_the_same_key_twice_in_one_batch_counts_once() -> None:
    rows = compose([ask("recipient:ada", dedupe_key="k"), ask("recipient:ada", dedupe_key="k")])
    assert [row.state for (row,) in rows] == ["pending", "skipped"]


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_with_the_same_key_at_the_same_time_one_is_skipped() -> None:
    composed = threading.Event()

    def first() -> None:
        with transaction.atomic():
            compose([ask("recipient:ada", dedupe_key="k")])
            composed.set()
            time.sleep(0.3)
        connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    composed.wait(5)
    compose([ask("recipient:ada", dedupe_key="k")])
    thread.join()
    assert sorted(Delivery.objects.values_list("state", flat=True)) == ["pending", "skipped"]


def test_a_hundred_requests_cost_a_handful_of_statements() -> None:
    requests = [ask("channel:hook", template="") for _ in range(100)]
    with CaptureQueriesContext(connection) as statements:
        compose(requests)
    assert len(statements) <= 5


def test_numbers_survive_as_they_were_given() -> None:
    (row,) = told("channel:hook", data={"big": 1e25, "small": 0.1, "whole": 2**53})
    assert row.message["data"] == {"big": 1e25, "small": 0.1, "whole": 2**53}
