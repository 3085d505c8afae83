"""The base of the channel types that publish to a message broker.

What it sends is a CloudEvent: the event of a step `publish`, or a notification made into one, whose `data` is what a
webhook would be sent. A subclass puts a `Message` where its settings say, and returns when the broker has confirmed it.

The delivery's uid is the same on every attempt. A broker that drops repetitions is given that to know them by, and not
the event's id: two events of different sources may have the same id, and neither must be lost.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr

from notifications.channels.base import ChannelType, Outgoing, Receipt, SendError
from notifications.channels.cloud_event import CloudEvent, Message, Mode
from project.secrets import MASK
from project.transport import Transport

CONNECT_SECONDS: Final = 5.0
"""How long connecting may take: less than an attempt, so that it can still say why."""

PLACES: Final = ("{type}", "{subject}")

_MODE: Final = (
    "binary: the data is the message, the event's attributes stand beside it. structured: one JSON document with both. "
    "data: only the data, for receivers that know no CloudEvents."
)


class Broker(ChannelType):
    """A place at a message broker."""

    parts: ClassVar[frozenset[str]] = frozenset({"data", "event"})

    mode: Mode = Field("binary", title="Mode", description=_MODE)

    async def send(self, outgoing: Outgoing, transport: Transport) -> Receipt:
        event = CloudEvent.of(outgoing.uid, outgoing.type, outgoing.created_at, outgoing.event, outgoing.data)
        return await self.publish(event, event.encoded(self.mode), outgoing, transport)

    @abstractmethod
    async def publish(self, event: CloudEvent, message: Message, outgoing: Outgoing, transport: Transport) -> Receipt:
        """Publish it, and return what the broker said when it has confirmed it. Raises SendError."""

    def refusal(self, error: BaseException | str, *, permanent: bool = False, hold: bool | None = None) -> SendError:
        """What a client raised, as an attempt records it: in words, without our secrets.

        A place that is not there, a user who is refused and a broker that is away are worth another try: they are
        mended tomorrow, and the message is still wanted.
        """
        words = str(error) or type(error).__name__
        for secret in self._secrets():
            words = words.replace(secret, MASK)
        return SendError(words, permanent=permanent, hold=hold)

    def _secrets(self) -> list[str]:
        found: list[str] = []
        for value in (getattr(self, name) for name in type(self).model_fields):
            if isinstance(value, SecretStr) and (secret := value.get_secret_value()):
                password = urlsplit(secret).password if "://" in secret else None
                found += filter(None, (secret, password, unquote(password or "")))
        return found


def filled(pattern: str, event: CloudEvent, within: Mapping[int, Any] | None = None) -> str:
    """The pattern with {type} and {subject} replaced by the event's; `within` translates what may not stand there.

    >>> filled("shop.{type}", CloudEvent({"id": "1", "type": "order.paid"}))
    'shop.order.paid'
    """
    for place, value in zip(PLACES, (event.type, event.subject), strict=True):
        pattern = pattern.replace(place, value.translate(within) if within else value)
    return pattern
