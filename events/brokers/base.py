"""The base of all message brokers that sources consume from, and its manual.

A broker is one module of this package with two classes. One is an adapter whose fields are a source's settings: how the
broker is reached, what is consumed there, and what becomes of a message. The other is an open connection, which has
four things to do. This is all of a broker whose messages are lines of a file:

    @adapters.register("lines")
    class Lines(Broker):
        '''A file whose lines are messages.'''

        path: str = Field(title="Path", description="Where the file is.")

        async def connect(self, identity: str) -> Reader:
            return LinesReader(Path(self.path))


    class LinesReader(Reader):
        def __init__(self, path: Path) -> None:
            self._path, self._mark = path, path.with_suffix(".done")

        async def receive(self, limit: int, wait: float) -> list[Message]:
            start = int(self._mark.read_text()) if self._mark.exists() else 0
            lines = self._path.read_bytes().splitlines()[start : start + limit]
            if not lines:
                await asyncio.sleep(wait)
            return [Message(line, f"{self._path.name}/{at}", ticket=at) for at, line in enumerate(lines, start)]

        async def acknowledge(self, messages: Sequence[Message]) -> None:
            self._mark.write_text(str(messages[-1].ticket + 1))

Nothing else has to know it: the admin's form, `apply`, `manage.py consume`, metrics and dead letters find it by name.

`connect` opens a connection, or raises whatever its client raises. `identity` is a name that no other consumer of the
source has at this time, and that whoever starts in place of a killed one gets again: brokers that keep something for
a client by its name are told this one. Client libraries are optional and large, so they are imported here, not at the
top of the module.

`receive` returns some messages, at most `limit`, as soon as there are any, and none when `wait` seconds have passed. It
is not called again before they are acknowledged, so a client may fetch ahead, up to one more batch.

`acknowledge` is called after the commit: everything of these messages is stored, and the broker may forget them. They
are those of the last `receive`, all of them and in that order. Before that nothing may tell the broker that they have
arrived; a broker that is not told has to deliver them again, to this or to another consumer.

`lag` says how many messages wait at the broker, for all consumers of the source together; None where nobody can tell.

Whatever any of these raises, the connection is taken for lost: it is closed, and opened again after a pause. So is it
when a source is changed, or the process is told to stop.

A message has a `position`: what the broker knows it by, the same whenever it is delivered again. It is the id of an
event that brings none, and what keeps a message from becoming two dead letters. `headers` are texts by their names in
small letters; `about` is what expressions know as `message`, where a broker that has no number of its own for a message
puts `delivery`, which differs each time; `ticket` is what `acknowledge` needs.

What a message means is the base's own. Without the setting `type`, it is a CloudEvent: in binary mode when headers that
begin with one of `prefixes` hold the attributes, else in structured mode, alone or as a batch; plain JSON as the API
takes it passes, too. With `type`, it is any JSON, and the settings say what the event is.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

from django.conf import settings
from pydantic import Field

from events.cloudevents import BATCH, MAX_LENGTH, PLAIN, STRUCTURED, Incoming, Original, binary, read
from events.sources.base import Json, without_passwords
from events.sources.mapped import Mapped
from project.api import TooLarge, load

LINGER: Final = 0.01  # seconds that a batch which is not full waits for more


@dataclass(slots=True)
class Message:
    """What a broker delivers, as the manual above describes it."""

    body: bytes
    position: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    about: Mapping[str, Json] = field(default_factory=dict)
    at: datetime | None = None  # when it came to the broker, where that tells
    ticket: Any = None

    @property
    def media_type(self) -> str:
        return self.content_type.partition(";")[0].strip().lower()


class Reader(ABC):
    """An open connection to a broker. The manual says what each method does."""

    patience: ClassVar[float] = 1.0
    """Seconds that `receive` is told to wait; so long the end of the process may have to wait, too."""

    @abstractmethod
    async def receive(self, limit: int, wait: float) -> list[Message]: ...

    @abstractmethod
    async def acknowledge(self, messages: Sequence[Message]) -> None: ...

    async def lag(self) -> int | None:
        return None

    async def close(self) -> None:
        return None


class Broker(Mapped):
    """A broker, what is consumed there, and what becomes of a message. Subclasses override `connect`."""

    webhooks: ClassVar[bool] = False
    secret: ClassVar[str] = ""
    variables: ClassVar[tuple[str, ...]] = ("body", "headers", "message")
    prefixes: ClassVar[tuple[str, ...]] = ("ce-", "ce_")
    """How headers begin that are attributes of a CloudEvent, by the protocol's binding."""

    type: str = Field(
        "",
        title="Event type",
        description="Empty: messages are CloudEvents. Else any JSON, and the name of an event type, or made from the "
        "message: shop.${{ body.event }}, ${{ headers['x-event'] }}, ${{ message.topic }}.",
    )
    id: str = Field(
        "",
        title="Id",
        description="What a message is known by when it comes again: ${{ body.id }}. Empty: its place at the broker.",
    )
    batch: int = Field(
        200, ge=1, le=1000, title="Batch", description="Messages that are stored in one transaction, at most."
    )

    @property
    def most(self) -> int:
        """How many consumers may take messages at a time; the others stand by."""
        return 1000

    async def connect(self, identity: str) -> Reader:
        """Open a connection; raises whatever the client raises."""
        raise TypeError(f"{type(self).__name__} does not override connect")

    def attributes(self, message: Message) -> dict[str, str]:
        """The attributes of a CloudEvent that stand in headers, as they are meant; without `specversion` it is none."""
        found = {}
        for name, value in message.headers.items():
            for prefix in self.prefixes:
                if name.startswith(prefix):
                    found[name.removeprefix(prefix)] = value
        return found

    def events(self, message: Message) -> list[Incoming]:
        """What the message brings. Raises BadRequest or TooLarge, naming what is at fault."""
        found = [self._described(message)] if self.type else self._cloudevents(message)
        for number, event in enumerate(found):
            event.id = event.id or _id_at(message.position, number)
        return found

    def _cloudevents(self, message: Message) -> list[Incoming]:
        attributes = self.attributes(message)
        if "specversion" in attributes:
            return [binary(message.media_type, attributes, message.body)]
        # Who sends JSON to a broker often says that it is text, or bytes, or nothing.
        content_type = message.content_type if message.media_type in (STRUCTURED, BATCH) else PLAIN
        return read(content_type, {}, message.body)[0]

    def _described(self, message: Message) -> Incoming:
        if len(message.body) > settings.EVENT_MAX_BYTES:
            raise TooLarge(f"The body has {len(message.body):,} bytes; at most {settings.EVENT_MAX_BYTES:,}.")
        event = self.rendered(
            body=load(message.body) if message.body else None,
            headers=dict(message.headers),
            message={**message.about, "position": message.position},
        )
        event.original = Original.of(without_passwords(message.headers), message.body)
        return event


class Arrivals:
    """For clients that hand messages over as they come: keeps them until they are asked for.

    How many there can be is the client's to limit, by what its broker calls prefetch or receive maximum.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._lost: BaseException | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> None:
        self._messages.append(message)
        self._news.set()

    def lose(self, error: BaseException) -> None:
        """The connection is gone, and what came by it cannot be acknowledged any more: `take` raises this."""
        self._lost = self._lost or error
        self._news.set()

    async def take(self, limit: int, wait: float) -> list[Message]:
        """What there is, at most `limit`; waits for the first, and a moment for more."""
        if not self._messages and not self._lost:
            self._news.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                return []
        if len(self._messages) < limit:
            await asyncio.sleep(LINGER)
        if self._lost:
            raise self._lost
        return [self._messages.popleft() for _ in range(min(limit, len(self._messages)))]


def text_of(value: Any) -> str:
    """A header's value as text: brokers' clients have bytes, numbers, times, and lists of them."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    return "" if value is None else str(value)


def fingerprint(*parts: bytes) -> str:
    """What a message is known by where the broker gives it no number: equal messages are then one."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8) + part)
    return found.hexdigest()


def _id_at(position: str, number: int) -> str:
    """
    >>> _id_at("orders/3/42", 0), _id_at("orders/3/42", 1)
    ('orders/3/42', 'orders/3/42.1')
    >>> len(_id_at("x" * 500, 7))
    66
    """
    # Room for the number; and what a broker allows in a name need not be what an id may hold.
    if len(position.encode(errors="replace")) > MAX_LENGTH["id"] - 10 or "\0" in position:
        position = fingerprint(position.encode(errors="replace"))
    return f"{position}.{number}" if number else position
