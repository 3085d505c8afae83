"""The preview of a template and the test of it: what is told, who may, and that nothing they send breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from notifications.models import Channel, Delivery, Recipient, Template
from notifications.template_pages import Draft, previewed

pytestmark = pytest.mark.django_db(transaction=True)

PREVIEW = "admin:notifications_template_preview"
SEND = "admin:notifications_template_send_test"
SEEN = {"event": {"type": "order.paid", "data": {"order_id": "A-7", "customer": "Ada"}}}
GIVEN = {
    "name": "paid",
    "subject": "{{ event.data.order_id }} paid",
    "text": "Thank you, {{ event.data.customer }}",
    "html": "<b>{{ event.data.customer }}</b>",
    "languages": '{"de": {"subject": "{{ event.data.order_id }} bezahlt"}}',
    "document": json.dumps(SEEN),
}


def draft(**given: str) -> Draft:
    return Draft.of({**GIVEN, **given})


def address(name: str, template: Template | None = None) -> str:
    return reverse(name) + (f"?template={template.pk}" if template else "")


@pytest.fixture
def channels() -> None:
    Channel.objects.create(name="mail", type="email", default=True)
    Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hooks/abcd"})
    Channel.objects.create(name="hook", type="webhook", settings={"url": "https://example.com/hook"})


@pytest.fixture
def me(admin_user: User) -> User:
    admin_user.email = "me@example.com"
    admin_user.save()
    return admin_user


class TestPreview:
    @pytest.mark.parametrize(
        ("language", "subject"), [("", "A-7 paid"), ("de", "A-7 bezahlt"), ("de-AT", "A-7 bezahlt"), ("fr", "A-7 paid")]
    )
    def test_it_is_what_a_reader_of_the_language_gets(self, language: str, subject: str) -> None:
        assert previewed(draft(), SEEN, language).message == {
            "subject": subject,
            "text": "Thank you, Ada",
            "html": "<b>Ada</b>",
        }

    def test_without_a_text_its_words_are_those_of_the_html(self) -> None:
        assert previewed(draft(text=""), SEEN, "").message["text"] == "Ada"

    def test_every_mistake_is_told_at_its_field_and_line_and_the_rest_is_shown(self) -> None:
        wrong = draft(text="fine\n{{ event.data.nick }}", html="{% if %}", subject="{{ event.data.order_id }}!")
        found = previewed(wrong, SEEN, "")
        assert found.message == {"subject": "A-7!"}
        assert [wrong.mark(*problem) for problem in found.problems] == [
            {"field": "html", "line": 1, "message": found.problems[0][1]},
            {"field": "text", "line": 2, "message": "line 2: event.data.nick is undefined"},
        ]

    def test_a_mistake_in_a_language_is_marked_where_it_is_written(self) -> None:
        languages = '{\n  "de": {\n    "subject": "{{ event.data.nick }}",\n    "text": "{{ a"\n  }\n}'
        wrong = draft(languages=languages)
        marks = [wrong.mark(*problem) for problem in previewed(wrong, SEEN, "de").problems]
        assert [(mark["field"], mark["line"]) for mark in marks] == [("languages", 4), ("languages", 3)]
        assert marks[1]["message"] == "de.subject: line 1: event.data.nick is undefined"

    def test_what_the_template_reads_and_is_not_there_is_named_also_where_it_asks_first(self) -> None:
        found = previewed(draft(text="{% if event.data.vip %}Dear{% endif %}\n{{ x | default: 1 }}"), SEEN, "")
        assert found.problems == []
        assert found.missing == [("event.data.vip", "text", 1), ("x", "text", 2)]

    def test_html_is_shown_in_a_frame_that_can_do_nothing(self, admin_client: Client) -> None:
        given = {**GIVEN, "html": "<script>alert('x')</script>\"><img src=x>"}
        shown = admin_client.post(address(PREVIEW), given).content.decode()
        assert '<iframe class="message-html" title="HTML" sandbox srcdoc="&lt;script&gt;' in shown
        assert "<script>alert" not in shown
        assert "<img" not in shown


ODD: list[dict[str, Any]] = [
    {},
    {"languages": "[" * 100_000},
    {"languages": '{"de": {"text": "\\ud800"}}'},
    {"languages": '{"de": [1], "x": null, "\\u0000": {}, "fr": {"text": 3, "title": {}}}'},
    {"languages": "[]", "text": "\0", "name": "x" * 500},
    {"document": '{"a": "\\u0000"}'},
    {"document": "[]"},
    {"document": "{" * 10_000},
    {"text": "{% for i in (1..1000000000) %}x{% endfor %}"},
    {"text": "{{ '%00' | url_decode }}"},
    {"text": "{{ a" * 1000, "language": "\0"},
    {"language": "de" * 1000, "to": "\0"},
]


@pytest.mark.parametrize("odd", ODD)
def test_nothing_that_is_sent_breaks_it(admin_client: Client, channels: None, me: User, odd: dict[str, str]) -> None:
    assert admin_client.post(address(PREVIEW), {**GIVEN, **odd}).status_code == 200
    assert admin_client.post(address(SEND), {**GIVEN, "to": "me", **odd}).status_code == 200


def test_a_mistake_that_keeps_it_from_being_saved_is_marked_at_its_line(admin_client: Client) -> None:
    given = {**GIVEN, "text": "fine\n\n{{ event.data.nick | shout }}"}
    response: Any = admin_client.post(reverse("admin:notifications_template_add"), given)
    attributes = response.context["adminform"].form["text"].build_widget_attrs({})
    [mark] = json.loads(attributes["data-problems"])
    assert (mark["line"], mark["message"][:29]) == (3, 'line 3: unknown filter "shout"'[:29])


class TestSend:
    def test_it_goes_the_way_of_every_delivery(self, admin_client: Client, channels: None, me: User) -> None:
        stored = Template.objects.create(name="paid", text="as it was saved")
        answer = admin_client.post(address(SEND, stored), {**GIVEN, "language": "de", "to": "me"})
        delivery = Delivery.objects.get()
        assert reverse("admin:notifications_delivery_change", args=[delivery.pk]) in answer.content.decode()
        assert (delivery.channel.name, delivery.to, delivery.state) == ("mail", "me@example.com", "pending")
        assert (delivery.template, delivery.category, delivery.origin) == ("paid", "test", None)
        assert delivery.due_at is not None
        assert delivery.message["subject"] == "A-7 bezahlt"
        assert LogEntry.objects.get().change_message == f"Sent a test: {delivery.pk}."
        admin_client.post(address(SEND, stored), {**GIVEN, "to": "me"})
        assert Delivery.objects.count() == 2  # a second test is no duplicate

    def test_a_channel_gets_it_from_who_may_change_channels(self, admin_client: Client, channels: None) -> None:
        admin_client.post(address(SEND), {**GIVEN, "to": "chat"})
        assert Delivery.objects.get().channel.name == "chat"

    @pytest.mark.parametrize("to", ["hook", "mail", "none", "", "recipient:ada", "email:x@example.com"])
    def test_nobody_else_can_be_reached(self, admin_client: Client, channels: None, to: str) -> None:
        Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"})
        answer = admin_client.post(address(SEND), {**GIVEN, "to": to}).content.decode()
        assert "There is no channel" in answer
        assert not Delivery.objects.exists()

    def test_without_an_address_or_a_way_to_it_that_is_said(self, admin_client: Client, admin_user: User) -> None:
        admin_user.email = ""
        admin_user.save()
        page = reverse("admin:notifications_template_add")
        assert "Your account has no e-mail address" in admin_client.get(page).content.decode()
        assert "Your account has no e-mail" in admin_client.post(address(SEND), {**GIVEN, "to": "me"}).content.decode()
        admin_user.email = "me@example.com"
        admin_user.save()
        assert "No e-mail channel is the default one" in admin_client.get(page).content.decode()
        assert "no channel of type email" in admin_client.post(address(SEND), {**GIVEN, "to": "me"}).content.decode()

    def test_a_disabled_channel_says_that_it_is(self, admin_client: Client, channels: None, me: User) -> None:
        Channel.objects.filter(name="mail").update(enabled=False)
        answer = admin_client.post(address(SEND), {**GIVEN, "to": "me"}).content.decode()
        assert "It was not sent: channel mail is disabled" in answer

    def test_what_cannot_be_rendered_is_not_sent(self, admin_client: Client, channels: None, me: User) -> None:
        answer = admin_client.post(address(SEND), {**GIVEN, "text": "{{ nick }}", "to": "me"}).content.decode()
        assert "template paid, text, line 1" in answer
        assert not Delivery.objects.exists()


def test_only_who_may_edit_a_template_sees_and_sends_it(client: Client, channels: None) -> None:
    stored = Template.objects.create(name="paid", text="x")
    user = User.objects.create_user("somebody", is_staff=True, email="me@example.com")
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_template", "view_channel"]))
    client.force_login(user)
    page = reverse("admin:notifications_template_change", args=[stored.pk])
    assert "template-preview" not in client.get(page).content.decode()
    for name in (PREVIEW, SEND):
        assert client.post(address(name, stored), {**GIVEN, "to": "me"}).status_code == 403
        assert client.post(address(name), {**GIVEN, "to": "me"}).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="change_template"))
    client.force_login(User.objects.get(pk=user.pk))
    shown = client.get(page).content.decode()
    assert "Send me a test" in shown
    assert 'id="test-channel"' not in shown
    client.post(address(SEND, stored), {**GIVEN, "to": "chat"})
    assert not Delivery.objects.exists()
    client.post(address(SEND, stored), {**GIVEN, "to": "me"})
    assert Delivery.objects.count() == 1
    assert client.get(address(SEND, stored)).status_code == 200
    assert Delivery.objects.count() == 1
