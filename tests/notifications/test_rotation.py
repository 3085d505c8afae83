"""A new secret, and the one before, are both valid until the receivers have changed over."""

from __future__ import annotations

import pytest
import standardwebhooks
from django.test import override_settings

from notifications.channels import channel_types
from notifications.models import Channel
from notifications.rotation import CannotRotate, forget, rotate, rotates, rotating
from tests.notifications.channels.test_duties import SECRET
from tests.notifications.conftest import MakeChannel, MakeSender
from tests.notifications.test_delivery import settled, tell
from tests.sinks import HttpSink

pytestmark = pytest.mark.django_db(transaction=True)


def verifies(sink: HttpSink, secret: str) -> bool:
    """Whether a receiver with this secret takes the last call."""
    request = sink.requests[-1]
    try:
        standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
    except standardwebhooks.webhooks.WebhookVerificationError:
        return False
    return True


def test_receivers_with_the_old_and_with_the_new_secret_take_calls_until_the_old_one_is_forgotten(
    webhook: MakeChannel, http_sink: HttpSink, start_sender: MakeSender
) -> None:
    channel = webhook("ops", settings={"secret": SECRET})
    sender = start_sender()

    def call() -> None:
        made = tell("channel:ops")
        sender.drain()
        settled(made)

    call()
    assert verifies(http_sink, SECRET)
    new = rotate(channel)
    call()
    assert (verifies(http_sink, SECRET), verifies(http_sink, new)) == (True, True)
    channel.refresh_from_db()
    assert rotating(channel)
    forget(channel)
    call()
    assert (verifies(http_sink, SECRET), verifies(http_sink, new)) == (False, True)
    channel.refresh_from_db()
    assert not rotating(channel)
    assert channel.settings == {"url": http_sink.url("/ops"), "secret": new}


def test_the_first_secret_has_none_before_it(webhook: MakeChannel) -> None:
    channel = webhook("ops")
    new = rotate(channel)
    channel.refresh_from_db()
    assert channel.settings["secret"] == new
    assert not rotating(channel)
    channel.full_clean()


def test_a_third_secret_ends_the_first_one(webhook: MakeChannel) -> None:
    channel = webhook("ops", settings={"secret": SECRET})
    second, third = rotate(channel), rotate(channel)
    channel.refresh_from_db()
    assert (channel.settings["secret"], channel.settings["previous_secret"]) == (third, second)


@override_settings(ENVIRONMENT={"OPS_SECRET": SECRET})
def test_a_secret_of_the_environment_is_not_ours_to_change(webhook: MakeChannel) -> None:
    channel = webhook("ops", settings={"secret": "${OPS_SECRET}"})
    with pytest.raises(CannotRotate, match="the environment variable OPS_SECRET: set a new one there"):
        rotate(channel)
    channel.refresh_from_db()
    assert channel.settings["secret"] == "${OPS_SECRET}"


def test_only_types_with_a_secret_of_ours_rotate() -> None:
    chat = Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hooks/x"})
    gone = Channel.objects.create(name="gone", type="pigeon", settings={})
    assert (rotates(chat), rotates(gone), rotating(gone)) == (False, False, False)
    with pytest.raises(CannotRotate):
        rotate(chat)
    forget(chat)


def test_what_a_type_makes_it_also_takes() -> None:
    """A duty of every type that rotates."""
    for kind in map(channel_types.__getitem__, channel_types.names()):
        if kind.rotating is None:
            continue
        present, before = kind.rotating
        assert {present, before} <= set(kind.model_fields)
        secrets = {kind.new_secret() for _ in range(3)}
        assert len(secrets) == 3
        for secret in secrets:
            assert not [path for path, _ in kind.problems({present: secret, before: secret}) if path in kind.rotating]
