"""Messages that could not be events: kept as they came, tried again, discarded."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.urls import reverse

from events import catalogue, intake, troubles
from events.brokers.base import Message
from events.dead_letters import CannotRedrive, discard, redrive, waiting
from events.doctor import dead_letters as examined
from events.models import DeadLetter, Event, EventType, LetterState, Source
from tests.brokers.counterparts import structured
from tests.events.conftest import ORDER, PAID, event_type

pytestmark = pytest.mark.django_db

SETTINGS = {"url": "redis://127.0.0.1:1/0", "streams": ["orders"]}


@pytest.fixture
def shop() -> Source:
    return Source.objects.create(name="shop", adapter="redis", settings=SETTINGS)


def keep(source: Source, *messages: Message) -> intake.Kept:
    return intake.keep(source.name, catalogue.hook(source), messages)


def message(body: bytes, position: str = "orders/1-1", **more: Any) -> Message:
    return Message(body, position, **more)


class TestKeeping:
    def test_bad_ones_are_kept_beside_the_good_ones(self, shop: Source) -> None:
        event_type("order.paid", ORDER)
        good = message(structured("1", "order.paid", PAID), "orders/1-1")
        bad = message(structured("2", "order.paid", {}), "orders/1-2", headers={"x-a": "1", "authorization": "hush"})
        assert keep(shop, good, bad) == intake.Kept(stored=1, duplicates=0, dead=1)
        letter = DeadLetter.objects.get()
        assert (letter.source, letter.position, letter.state) == ("shop", "orders/1-2", LetterState.WAITING)
        assert letter.reason.startswith('data: "order_id" is a required property')
        assert letter.headers == {"x-a": "1"}
        assert bytes(letter.body) == bad.body

    def test_the_same_message_again_is_no_second_letter(self, shop: Source) -> None:
        for _ in range(2):
            keep(shop, message(b"not JSON"))
        assert DeadLetter.objects.count() == 1

    def test_one_that_is_too_large_is_kept_as_far_as_an_event_may_be(self, shop: Source) -> None:
        event_type("note")
        keep(shop, message(structured("1", "note", "x" * 300_000)))
        letter = DeadLetter.objects.get()
        assert (len(letter.body), letter.whole) == (256 * 1024, False)
        with pytest.raises(CannotRedrive, match="Only the first 262,144 of its 300,"):
            redrive(letter, by="ada")

    @pytest.mark.parametrize(
        "body", [b"", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe", b'{"a": "\\u0000"}', b"[" * 5000]
    )
    @pytest.mark.parametrize("type_", ["", "note", "${{ body.type }}"])
    def test_whatever_comes_is_an_event_or_a_letter(self, shop: Source, body: bytes, type_: str) -> None:
        event_type("note")
        shop.settings = {**SETTINGS, "type": type_, "data": "${{ body }}"}
        kept = keep(shop, message(body, "a\0b", headers={"x": "\0\ud800"}, about={"key": "\0"}, content_type="\0"))
        assert kept.stored + kept.dead == 1

    def test_what_postgres_will_not_have_fails_alone(self, shop: Source) -> None:
        """A trigger stands for whatever a database may have against a row that passed every check."""
        event_type("note")
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE events_event ADD CONSTRAINT no_thirteen CHECK (event_id <> '13')")
        kept = keep(shop, *(message(structured(str(n), "note", n), f"o/{n}") for n in (12, 13, 14)))
        assert kept == intake.Kept(stored=2, duplicates=0, dead=1)
        assert "no_thirteen" in DeadLetter.objects.get().reason

    def test_a_producers_name_stands_behind_ours(self, shop: Source) -> None:
        event_type("note")
        keep(
            shop,
            message(structured("1", "note", 1, source="https://one.example"), "a/1"),
            message(structured("1", "note", 1, source="urn:two"), "a/2"),
            message(structured("1", "note", 1, source="/carillon"), "a/3"),
        )
        assert sorted(Event.objects.values_list("source", flat=True)) == [
            "/shop/carillon",
            "/shop/https://one.example",
            "/shop/urn:two",
        ]


class TestTryingAgain:
    @pytest.fixture
    def letter(self, shop: Source) -> DeadLetter:
        keep(shop, message(structured("1", "order.paid", PAID)))
        return DeadLetter.objects.get()

    def test_it_is_an_event_once_what_was_wrong_is_mended(self, letter: DeadLetter) -> None:
        event_type("order.paid", ORDER)
        held = redrive(letter, by="ada")
        event = Event.objects.get()
        assert (held.state, held.event, held.settled_by) == (LetterState.STORED, event.uid, "ada")
        assert held.settled_at
        assert (event.event_id, event.data, event.source) == ("1", PAID, "/shop/elsewhere")
        with pytest.raises(CannotRedrive, match="it was stored before"):
            redrive(letter, by="ada")
        assert Event.objects.count() == 1

    def test_it_says_the_new_reason_when_it_fails_again(self, letter: DeadLetter) -> None:
        event_type("order.paid", {"type": "string"})
        with pytest.raises(CannotRedrive, match="is not of type"):
            redrive(letter, by="ada")
        letter.refresh_from_db()
        assert letter.state == LetterState.WAITING
        assert "is not of type" in letter.reason

    def test_the_source_is_asked_as_it_is_now(self, shop: Source) -> None:
        keep(shop, message(b'{"n": 1}', about={"stream": "orders", "id": "1-1"}))
        event_type("note")
        shop.settings = {**SETTINGS, "type": "note", "subject": "${{ message.stream }}", "data": "${{ body.n }}"}
        shop.save()
        redrive(DeadLetter.objects.get(), by="ada")
        event = Event.objects.get()
        assert (event.event_id, event.subject, event.data) == ("orders/1-1", "orders", 1)

    def test_without_the_source_it_stays(self, letter: DeadLetter, shop: Source) -> None:
        shop.delete()
        with pytest.raises(CannotRedrive, match="no source shop any more"):
            redrive(letter, by="ada")
        Source.objects.create(name="shop")
        with pytest.raises(CannotRedrive, match="consumes from no broker"):
            redrive(letter, by="ada")

    def test_an_event_that_is_there_is_that_event(self, letter: DeadLetter, shop: Source) -> None:
        event_type("order.paid", ORDER)
        keep(shop, message(structured("1", "order.paid", PAID), "orders/2-1"))
        assert redrive(letter, by="ada").event == Event.objects.get().uid


def test_what_is_discarded_stays_to_be_seen_and_counts_no_more(shop: Source) -> None:
    keep(shop, message(b"x"), message(b"y", "orders/1-2"))
    assert waiting() == {"shop": 2}
    assert [finding.note for finding in examined()] == ["2 wait; see Dead letters in the admin"]
    (trouble,) = troubles.dead_letters()
    assert (trouble.what, trouble.grave) == ("Source shop: 2 messages could not be events.", False)
    assert discard(DeadLetter.objects.all(), by="ada") == 2
    assert discard(DeadLetter.objects.all(), by="bob") == 0
    assert waiting() == {}
    assert DeadLetter.objects.filter(state=LetterState.DISCARDED, settled_by="ada").count() == 2


def test_who_discarded_it_too_soon_tries_it_again(shop: Source) -> None:
    keep(shop, message(structured("1", "later", {})))
    assert discard(DeadLetter.objects.all(), by="ada") == 1
    event_type("later")
    row = redrive(DeadLetter.objects.get(), by="ada")
    assert (row.state, row.event) == (LetterState.STORED, Event.objects.get().uid)
    with pytest.raises(CannotRedrive, match="it was stored before"):
        redrive(row, by="ada")


class TestPages:
    @pytest.fixture
    def letter(self, shop: Source) -> DeadLetter:
        keep(shop, message(structured("1", "order.paid", PAID), headers={"x-from": "<b>"}, about={"key": "7"}))
        return DeadLetter.objects.get()

    def page(self, letter: DeadLetter, name: str = "change") -> str:
        return reverse(f"admin:events_deadletter_{name}", args=[letter.pk])

    def test_the_list_and_its_filters(self, admin_client: Client, letter: DeadLetter) -> None:
        there = reverse("admin:events_deadletter_changelist")
        for query, found in (
            ("", True),
            ("?source=shop&state=waiting", True),
            ("?state=stored", False),
            ("?source=x", False),
        ):
            told = admin_client.get(there + query)
            assert told.status_code == 200
            assert (self.page(letter) in told.content.decode()) == found, query

    def test_the_page_shows_the_message_and_why(self, admin_client: Client, letter: DeadLetter) -> None:
        told = admin_client.get(self.page(letter)).content.decode()
        for said in ("there is no event type", "orders/1-1", "A-1", "x-from", "Try again", "Discard"):
            assert said in told
        assert "<b>" not in told

    def test_text_that_is_no_json_is_shown_as_it_is(self, admin_client: Client, letter: DeadLetter) -> None:
        DeadLetter.objects.update(body=b"<i>\0\xff", size=5)
        assert "&lt;i&gt;" in admin_client.get(self.page(letter)).content.decode()

    def test_trying_again_links_the_event(self, admin_client: Client, letter: DeadLetter) -> None:
        event_type("order.paid", ORDER)
        admin_client.post(self.page(letter, "try_again"), {"_form_submitted": "1"}, follow=True)
        event = Event.objects.get()
        told = admin_client.get(self.page(letter)).content.decode()
        assert reverse("admin:events_event_change", args=[event.pk]) in told
        assert "Discard" not in told

    def test_failing_again_says_why(self, admin_client: Client, letter: DeadLetter) -> None:
        EventType.objects.create(name="order.paid", retired=True)
        there = reverse("admin:events_deadletter_changelist")
        chosen = {"action": "try_again_selected", "_selected_action": [str(letter.pk)]}
        told = admin_client.post(there, chosen, follow=True).content.decode()
        assert "Still no event: orders/1-1" in told
        assert "is retired" in told

    def test_the_overview_and_the_source_tell(self, admin_client: Client, letter: DeadLetter, shop: Source) -> None:
        told = admin_client.get(reverse("admin:index")).content.decode()
        assert "1 message could not be an event." in told
        assert "nobody has consumed it" in told
        page = admin_client.get(reverse("admin:events_source_change", args=[shop.pk])).content.decode()
        assert "nobody consumes it" in page

    def test_the_form_of_a_source_has_the_brokers_settings(self, admin_client: Client) -> None:
        add = reverse("admin:events_source_add")
        told = admin_client.get(f"{add}?adapter=redis").content.decode()
        assert 'name="settings__streams"' in told
        assert 'name="secret"' not in told
        fields = {"name": "feed", "rate_limit": "10/s", "enabled": "on", "settings__url": "redis://r/0"}
        inline = {"keys-TOTAL_FORMS": "0", "keys-INITIAL_FORMS": "0"}
        answer = admin_client.post(f"{add}?adapter=redis", {**fields, **inline, "settings__streams": ""})
        assert answer.status_code == 200
        answer = admin_client.post(f"{add}?adapter=redis", {**fields, **inline, "settings__streams": "a\nb"})
        assert answer.status_code == 302, answer.content.decode()
        row = Source.objects.get(name="feed")
        assert row.settings["streams"] == ["a", "b"]
        assert (
            "redis://r/0" not in admin_client.get(reverse("admin:events_source_change", args=[row.pk])).content.decode()
        )

    def test_who_acts_is_written_down(self, admin_client: Client, admin_user: User, letter: DeadLetter) -> None:
        admin_client.post(self.page(letter, "discard"), {"_form_submitted": "1"}, follow=True)
        letter.refresh_from_db()
        assert (letter.state, letter.settled_by) == (LetterState.DISCARDED, admin_user.get_username())
