"""The pages of a channel over HTTP: health, test, pause, secret, recovery; and who may what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from notifications import recovery
from notifications.models import Channel, Delivery, DeliveryState, Recovery
from notifications.recovery import drain, recover
from tests.notifications.channels.test_duties import SECRET
from tests.notifications.conftest import MakeChannel, MakeSender
from tests.notifications.test_delivery import settled, states, tell
from tests.notifications.test_recovery import failed
from tests.sinks import Answer, HttpSink, SmtpSink

pytestmark = pytest.mark.django_db(transaction=True)

CONFIRMED = {"_form_submitted": "on"}
PART = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def quick(settings: Any, redis_url: str) -> None:
    """Passwords that take no time, and a cache for the bells that is empty."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def page(channel: Channel, name: str = "change") -> str:
    return reverse(f"admin:notifications_channel_{name}", args=[channel.pk])


def person(client: Client, *codenames: str) -> Client:
    user = User.objects.create_user("person", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


class TestHealth:
    def test_it_tells_success_errors_and_what_waits(
        self, admin_client: Client, webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
    ) -> None:
        channel = webhook("ops")
        http_sink.answers["/ops"] = [Answer(), Answer(400, b"no such field"), Answer()]
        made = tell("channel:ops", times=4)
        start_sender().drain()
        settled(made)
        lost = Delivery.objects.get(state=DeliveryState.FAILED)
        for told in (
            admin_client.get(page(channel)).content.decode(),
            admin_client.get(page(channel, "health")).content.decode(),
        ):
            for words in ("75.0 %", "3 delivered, 1 failed", "no such field", str(lost.pk)):
                assert words in told

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({"paused_at": timezone.now(), "pause_reason": "by ada: they move house"}, "by ada: they move house"),
            ({"hold_until": timezone.now() + timedelta(hours=1), "hold_reason": "503 again"}, "503 again"),
            ({"failing_since": timezone.now()}, "after three days it switches itself off"),
            ({"enabled": False, "hold_reason": "switched off: no success"}, "recover what failed"),
            ({"enabled": False}, "deliveries are skipped"),
        ],
    )
    def test_what_is_the_matter_with_it_is_said_with_what_to_do(
        self, admin_client: Client, webhook: MakeChannel, columns: dict[str, Any], words: str
    ) -> None:
        channel = webhook("ops")
        Channel.objects.update(**columns)
        assert words in admin_client.get(page(channel, "health")).content.decode()

    def test_a_problem_in_the_form_is_shown_beside_it(self, admin_client: Client, webhook: MakeChannel) -> None:
        shown = admin_client.post(page(webhook("ops")), {"name": ""})
        assert shown.status_code == 200
        assert "How it fares" in shown.content.decode()


class TestATest:
    def test_it_goes_the_way_of_all_deliveries_and_tells_what_came_back(
        self, admin_client: Client, webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
    ) -> None:
        channel = webhook("ops")
        http_sink.answers["/ops"] = [Answer(200, b"welcome")]
        assert "Send a test" in admin_client.get(page(channel)).content.decode()
        sent = admin_client.post(page(channel, "test"))
        assert sent.status_code == 302
        waiting = admin_client.get(sent.headers["Location"]).content.decode()
        assert "hx-trigger" in waiting
        assert "Under way" in waiting
        start_sender().drain()
        settled(list(Delivery.objects.all()))
        told = admin_client.get(sent.headers["Location"], headers=PART).content.decode()
        assert "It works" in told
        assert "welcome" in told
        assert "hx-trigger" not in told
        assert b"carillon.test" in http_sink.to("/ops")[0].body
        assert LogEntry.objects.filter(change_message__contains="Sent a test").exists()

    def test_what_failed_says_so_and_why(
        self, admin_client: Client, webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
    ) -> None:
        channel = webhook("ops")
        http_sink.answers["/ops"] = [Answer(403, b"who are you")]
        sent = admin_client.post(page(channel, "test"))
        start_sender().drain()
        settled(list(Delivery.objects.all()))
        told = admin_client.get(sent.headers["Location"], headers=PART).content.decode()
        assert "It did not arrive" in told
        assert "403 who are you" in told

    def test_mail_asks_where_to_and_knows_what_is_no_address(
        self, admin_client: Client, mail_server: SmtpSink, start_sender: MakeSender
    ) -> None:
        channel = Channel.objects.create(name="mail", type="email", settings={"to": "ops@example.com"})
        asked = admin_client.get(page(channel, "test")).content.decode()
        assert 'value="ops@example.com"' in asked
        refused = admin_client.post(page(channel, "test"), {"to": "nobody"})
        assert refused.status_code == 200
        assert refused.context["form"].errors["to"]
        assert not Delivery.objects.exists()
        admin_client.post(page(channel, "test"), {"to": "ada@example.com"})
        start_sender().drain()
        (mail,) = mail_server.wait_for(1)
        assert mail.recipients == ["ada@example.com"]
        assert "admin wanted to see whether the channel mail works. It does." in mail.text

    def test_it_can_be_sent_again_and_again(self, admin_client: Client, webhook: MakeChannel) -> None:
        channel = webhook("ops")
        assert {admin_client.post(page(channel, "test")).status_code for _ in range(3)} == {302}
        assert Delivery.objects.count() == 3

    def test_where_nothing_can_be_sent_it_says_why(self, admin_client: Client, webhook: MakeChannel) -> None:
        gone = webhook("gone")
        Channel.objects.filter(pk=gone.pk).update(type="pigeon")
        for channel, words in (
            (webhook("disabled", enabled=False), "is disabled"),
            (webhook("unset", settings={"url": "${NOT_SET}"}), "no variable NOT_SET"),
            (gone, "unknown channel type"),
        ):
            sent = admin_client.post(page(channel, "test"), follow=True).content.decode()
            assert "It did not arrive" in sent
            assert words in sent

    @pytest.mark.parametrize("uid", ["x", "00000000-0000-7000-8000-000000000000", "\0"])
    def test_another_channels_delivery_is_not_shown(self, admin_client: Client, webhook: MakeChannel, uid: str) -> None:
        channel = webhook("ops")
        webhook("other")
        (elsewhere,) = tell("channel:other")
        for asked in (uid, str(elsewhere.pk)):
            assert admin_client.get(page(channel, "test"), {"delivery": asked}).status_code == 404


class TestAPause:
    def test_it_is_paused_with_a_reason_and_resumed(
        self, admin_client: Client, webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
    ) -> None:
        channel = webhook("ops")
        made = tell("channel:ops")
        assert b"csrfmiddlewaretoken" in admin_client.get(page(channel, "pause")).content
        channel.refresh_from_db()
        assert channel.paused_at is None  # asking changes nothing
        answered = admin_client.post(page(channel, "pause"), {**CONFIRMED, "reason": "they move house"}, headers=PART)
        assert answered.headers["HX-Redirect"] == page(channel)
        channel.refresh_from_db()
        assert channel.pause_reason == "by admin: they move house"
        sender = start_sender()
        assert sender.drain() == {}
        shown = admin_client.get(page(channel)).content.decode()
        assert page(channel, "resume") in shown
        assert page(channel, "pause") not in shown
        assert "1 delivery waits" in shown
        admin_client.post(page(channel, "resume"), CONFIRMED)
        sender.drain()
        settled(made)
        told = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
        assert told == ["Paused: they move house.", "Resumed."]

    def test_a_reason_that_is_too_long_is_refused(self, admin_client: Client, webhook: MakeChannel) -> None:
        channel = webhook("ops")
        shown = admin_client.post(page(channel, "pause"), {**CONFIRMED, "reason": "x" * 201})
        assert shown.status_code == 200
        channel.refresh_from_db()
        assert channel.paused_at is None

    def test_saving_the_form_leaves_the_pause_alone(self, admin_client: Client, webhook: MakeChannel) -> None:
        channel = webhook("ops")
        form = admin_client.get(page(channel)).context["adminform"].form
        given = {field.html_name: field.value() for field in form if field.value() not in (None, False, [])}
        given["retry_schedule"] = "0s"
        admin_client.post(page(channel, "pause"), {**CONFIRMED, "reason": ""})
        assert admin_client.post(page(channel), {**given, "description": "New"}).status_code == 302
        channel.refresh_from_db()
        assert (channel.description, channel.pause_reason) == ("New", "by admin")


class TestASecret:
    def test_it_is_shown_once_and_the_previous_one_is_forgotten(
        self, admin_client: Client, webhook: MakeChannel
    ) -> None:
        channel = webhook("ops", settings={"secret": SECRET})
        assert page(channel, "forget_secret") not in admin_client.get(page(channel)).content.decode()
        admin_client.get(page(channel, "rotate"))
        channel.refresh_from_db()
        assert channel.settings["secret"] == SECRET  # asking changes nothing
        shown = admin_client.post(page(channel, "rotate")).content.decode()
        channel.refresh_from_db()
        new = channel.settings["secret"]
        assert new in shown
        assert "signed with both" in shown
        assert SECRET not in shown
        change = admin_client.get(page(channel)).content.decode()
        assert new not in change
        assert page(channel, "forget_secret") in change
        admin_client.post(page(channel, "forget_secret"), CONFIRMED)
        channel.refresh_from_db()
        assert "previous_secret" not in channel.settings
        assert not LogEntry.objects.filter(change_message__contains=new).exists()

    def test_one_of_the_environment_is_refused_with_the_way_out(
        self, admin_client: Client, webhook: MakeChannel
    ) -> None:
        channel = webhook("ops", settings={"secret": "${OPS_SECRET}"})
        told = admin_client.post(page(channel, "rotate")).content.decode()
        assert "the environment variable OPS_SECRET: set a new one there" in told

    def test_types_without_a_secret_of_ours_have_no_such_page(self, admin_client: Client) -> None:
        channel = Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hooks/x"})
        assert page(channel, "rotate") not in admin_client.get(page(channel)).content.decode()
        assert admin_client.post(page(channel, "rotate")).status_code == 404


class TestARecovery:
    def test_it_counts_before_and_tells_how_far_it_has_come(
        self, admin_client: Client, webhook: MakeChannel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recovery, "BATCH", 2)
        channel = webhook("ops")
        made = failed("ops", 3)
        failed("ops", 4, ago=timedelta(hours=5))
        assert "7 failed deliveries" in admin_client.get(page(channel, "recover")).content.decode()
        asked = admin_client.get(page(channel, "recover"), {"hours": "1"}, headers=PART).content.decode()
        assert "3 failed deliveries" in asked
        assert "<form" not in asked
        assert not Recovery.objects.exists()  # asking changes nothing
        begun = admin_client.post(page(channel, "recover"), {"hours": "1"})
        assert "0 of 3 sent again so far" in admin_client.get(begun.headers["Location"]).content.decode()
        drain()
        told = admin_client.get(begun.headers["Location"], headers=PART).content.decode()
        assert "2 of 3 sent again so far" in told
        assert "hx-trigger" in told
        while drain():
            pass
        told = admin_client.get(begun.headers["Location"], headers=PART).content.decode()
        assert "3 sent again, with fresh schedules" in told
        assert "hx-trigger" not in told
        assert set(states(made)) == {DeliveryState.PENDING}
        assert "3 sent again" in admin_client.get(page(channel)).content.decode()

    def test_an_exact_time_wins_and_one_that_is_none_is_refused(
        self, admin_client: Client, webhook: MakeChannel
    ) -> None:
        channel = webhook("ops")
        failed("ops", 1, ago=timedelta(hours=2))
        failed("ops", 1, ago=timedelta(hours=4))
        since = f"{timezone.now() - timedelta(hours=3):%Y-%m-%dT%H:%M}"
        url = page(channel, "recover")
        assert (
            "1 failed delivery"
            in admin_client.get(url, {"hours": "720", "since": since}, headers=PART).content.decode()
        )
        for wrong in ({"hours": "1", "since": "yesterday"}, {"hours": "5"}, {"hours": ""}, {"hours": "trouble"}):
            assert admin_client.get(url, wrong, headers=PART).status_code == 200
            assert admin_client.post(url, wrong).status_code == 200
        assert not Recovery.objects.exists()

    def test_since_it_began_to_fail_is_offered_first(self, admin_client: Client, webhook: MakeChannel) -> None:
        channel = webhook("ops")
        Channel.objects.update(failing_since=timezone.now() - timedelta(hours=30))
        failed("ops", 2, ago=timedelta(hours=29))
        assert "2 failed deliveries" in admin_client.get(page(channel, "recover")).content.decode()
        admin_client.post(page(channel, "recover"), {"hours": "trouble"})
        assert Recovery.objects.get().found == 2

    def test_with_nothing_to_do_it_says_so(self, admin_client: Client, webhook: MakeChannel) -> None:
        assert "Nothing failed in that time" in admin_client.get(page(webhook("ops"), "recover")).content.decode()

    @pytest.mark.parametrize("pk", ["x", "0", "9" * 30, "-1"])
    def test_another_channels_recovery_is_not_shown(self, admin_client: Client, webhook: MakeChannel, pk: str) -> None:
        channel = webhook("ops")
        elsewhere = recover(webhook("other"), timezone.now())
        for asked in (pk, str(elsewhere.pk)):
            assert admin_client.get(page(channel, "recover"), {"recovery": asked}).status_code == 404


class TestWhoMay:
    ACTIONS = ("test", "pause", "resume", "rotate", "forget_secret", "recover")

    def test_whoever_may_only_look_sees_no_action_and_can_do_none(self, client: Client, webhook: MakeChannel) -> None:
        channel = webhook("ops", settings={"secret": SECRET, "previous_secret": SECRET})
        person(client, "view_channel", "view_delivery")
        shown = client.get(page(channel)).content.decode()
        assert "How it fares" in shown
        for name in self.ACTIONS:
            assert page(channel, name) not in shown
            assert client.get(page(channel, name)).status_code == 403
            assert client.post(page(channel, name), CONFIRMED).status_code == 403
        assert not Delivery.objects.exists()
        assert not Recovery.objects.exists()

    def test_whoever_may_change_deliveries_may_test_and_recover_and_not_pause(
        self, client: Client, webhook: MakeChannel
    ) -> None:
        channel = webhook("ops")
        person(client, "view_channel", "view_delivery", "change_delivery")
        shown = client.get(page(channel)).content.decode()
        for name, allowed in (("test", True), ("recover", True), ("pause", False), ("rotate", False)):
            assert (page(channel, name) in shown) is allowed
            assert client.get(page(channel, name)).status_code == (200 if allowed else 403)

    def test_whoever_may_not_see_channels_sees_none_of_this(self, client: Client, webhook: MakeChannel) -> None:
        channel = webhook("ops")
        person(client, "view_delivery", "change_delivery")
        for name in ("health", "test", "recover"):
            assert client.get(page(channel, name)).status_code == 403

    def test_whoever_may_not_see_deliveries_sees_no_errors(
        self, client: Client, webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
    ) -> None:
        channel = webhook("ops")
        http_sink.answers["/ops"] = [Answer(400, b"no such field")]
        made = tell("channel:ops")
        start_sender().drain()
        settled(made)
        person(client, "view_channel")
        assert "no such field" not in client.get(page(channel)).content.decode()

    def test_a_stranger_is_asked_to_log_in(self, client: Client, webhook: MakeChannel) -> None:
        channel = webhook("ops")
        for name in ("health", "test", "recover", "rotate"):
            answered = client.get(page(channel, name))
            assert answered.status_code == 302
            assert "/login/" in answered.headers["Location"]


@pytest.mark.parametrize("name", ["health", "test", "recover", "rotate", "pause"])
def test_a_channel_that_is_not_there_is_a_404(admin_client: Client, name: str) -> None:
    url = reverse(f"admin:notifications_channel_{name}", args=["nobody"])
    assert admin_client.get(url).status_code in (200, 404)
    assert admin_client.post(url, CONFIRMED).status_code == 404


def test_its_pages_are_found_by_its_name_too(admin_client: Client, webhook: MakeChannel) -> None:
    webhook("ops")
    for name in ("health", "test", "recover", "rotate"):
        assert admin_client.get(reverse(f"admin:notifications_channel_{name}", args=["ops"])).status_code == 200
