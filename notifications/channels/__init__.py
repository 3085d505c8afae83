"""The types of channels by name. A new type is one new module here; base.py says what to write."""

from notifications.channels.base import ChannelType
from project.registry import Registry

channel_types = Registry[ChannelType]("channel type", package="notifications.channels")
