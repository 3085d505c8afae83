"""A channel's secret is made anew, and the one before stays valid until the far side has changed over."""

from __future__ import annotations

from django.db import transaction

from notifications.channels import channel_types
from notifications.models import Channel
from project.secrets import references


class CannotRotate(ValueError):
    """The secret is not ours to make; the message says whose it is."""


def rotates(channel: Channel) -> bool:
    """Whether channels of this type have a secret that we make."""
    return channel.type in channel_types and channel_types[channel.type].rotating is not None


def rotating(channel: Channel) -> bool:
    """Whether two secrets are valid now."""
    names = channel_types[channel.type].rotating if channel.type in channel_types else None
    return names is not None and bool(channel.settings.get(names[1]))


def rotate(channel: Channel) -> str:
    """Make a new secret, and return it: nobody can show it again. Until `forget` everything is signed with both.

    One that was valid before the present one is valid no longer. Raises CannotRotate.
    """
    kind = channel_types[channel.type]
    if kind.rotating is None:
        raise CannotRotate(f"a channel of the type {channel.type} has no secret of ours")
    name, before = kind.rotating
    with transaction.atomic():
        row = Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
        present = row.settings.get(name) or ""
        if variables := references(present):
            raise CannotRotate(
                f"the secret is read from the environment variable {variables[0]}: set a new one there, and the one "
                f"that is valid now in the setting {before}"
            )
        secret = kind.new_secret()
        row.settings = {**row.settings, name: secret, **({before: present} if present else {})}
        row.save(update_fields=["settings"])
    return secret


def forget(channel: Channel) -> None:
    """Sign with the new secret only. Does nothing when there is no other."""
    names = channel_types[channel.type].rotating
    if names is None:
        return
    with transaction.atomic():
        row = Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
        row.settings = {name: value for name, value in row.settings.items() if name != names[1]}
        row.save(update_fields=["settings"])
