"""From messages of a broker to stored events, and dead letters of those that cannot be events: in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, transaction

from events import ingest
from events.brokers.base import Broker, Message
from events.catalogue import Hook
from events.cloudevents import Incoming, check, shortened
from events.ingest import Stored
from events.models import DeadLetter
from events.sources.base import without_passwords
from project import metrics
from project.api import Problem
from project.batch import together_or_alone

log = structlog.get_logger(__name__)

MOST_SAID: Final = 2_000  # characters of a reason
LONGEST_POSITION: Final = 300

Read: TypeAlias = tuple[Message, Sequence[Incoming]]
Done: TypeAlias = Sequence[Stored] | DeadLetter


@dataclass(frozen=True)
class Kept:
    """How many events of a batch were stored, had been stored before, and how many messages became dead letters."""

    stored: int
    duplicates: int
    dead: int


class Unfit(Exception):
    """The message cannot be an event; the text says why."""


def keep(name: str, feed: Hook, messages: Sequence[Message]) -> Kept:
    """Have all that the messages bring in PostgreSQL; returns after the commit, and then the broker may forget them.

    Raises DatabaseError when PostgreSQL cannot do it now: then nothing is stored, and all of it is done again.
    """
    fit: list[Read] = []
    letters: list[DeadLetter] = []
    with transaction.atomic():
        for message in messages:
            try:
                fit.append((message, read(feed, message)))
            except Unfit as error:
                letters.append(letter(name, message, str(error)))
        done = _stored(name, feed, fit)
        letters += [it for it in done if isinstance(it, DeadLetter)]
        DeadLetter.objects.bulk_create(letters, ignore_conflicts=True)
    events = [event for it in done if not isinstance(it, DeadLetter) for event in it]
    duplicates = sum(event.duplicate for event in events)
    kept = Kept(len(events) - duplicates, duplicates, len(letters))
    _count(name, kept)
    if letters:
        log.warning("dead letters", source=name, messages=len(letters), reason=letters[0].reason[:300])
    return kept


def read(feed: Hook, message: Message) -> list[Incoming]:
    """The events that the message brings, checked as those of a request are. Raises Unfit and DatabaseError."""
    assert isinstance(feed.adapter, Broker)
    try:
        events = feed.adapter.events(message)
        for event in events:
            event.source = _below(feed.uri, event.source)
            event.subject = shortened(event.subject)
            check(event)
        ingest.check(events, source=feed.uri, batch=len(events) != 1)
    except Problem as error:
        raise Unfit(_told(error)) from error
    except DatabaseError:
        raise
    except Exception as error:  # what a message or an expression can do that nobody thought of is that message's fault
        log.exception("message not understood", source=feed.uri, position=message.position)
        raise Unfit(f"{type(error).__name__}: {error}") from error
    return events


def letter(name: str, message: Message, reason: str) -> DeadLetter:
    """The message as a row that is not stored yet."""
    position = _storable(message.position)
    return DeadLetter(
        source=name,
        position=position if len(position) <= LONGEST_POSITION else f"…{position[1 - LONGEST_POSITION :]}",
        reason=_storable(reason)[:MOST_SAID],
        headers={_storable(key): _storable(value) for key, value in without_passwords(message.headers).items()},
        about={key: _storable(value) if isinstance(value, str) else value for key, value in message.about.items()},
        content_type=_storable(message.content_type)[:200],
        body=message.body[: settings.EVENT_MAX_BYTES],
        size=len(message.body),
    )


def _stored(name: str, feed: Hook, fit: Sequence[Read]) -> list[Done]:
    """What became of them: stored together, or one by one where PostgreSQL will not have one of them."""

    def together(rows: Sequence[Read]) -> Done:
        return _store(feed, (event for _, events in rows for event in events))

    def alone(row: Read) -> Done:
        message, events = row
        try:
            with transaction.atomic():
                return _store(feed, events)
        except (OperationalError, InterfaceError):  # not now; it says nothing about the message
            raise
        except Exception as error:  # it passed every check, and cannot be stored all the same
            log.exception("message not stored", source=name, position=message.position)
            return letter(name, message, f"it cannot be stored: {' '.join(str(error).split())}")

    return together_or_alone(fit, together, alone) if fit else []


def _store(feed: Hook, events: Iterable[Incoming]) -> list[Stored]:
    return ingest.store(list(events), source=feed.uri)


def _below(uri: str, source: str) -> str:
    """A CloudEvent's source as one of ours: what producers call themselves stands behind who brought it.

    >>> _below("/shop", "https://shop.example/eu"), _below("/shop", "/shop/eu"), _below("/shop", "")
    ('/shop/https://shop.example/eu', '/shop/eu', '/shop')
    """
    if not source or source == uri or source.startswith(f"{uri}/"):
        return source or uri
    return f"{uri}/{source.lstrip('/')}"


def _told(error: Problem) -> str:
    if not error.errors:
        return error.text
    return "\n".join(f"{fault.path}: {fault.message}" if fault.path else fault.message for fault in error.errors)


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _count(name: str, kept: Kept) -> None:
    for outcome, n in (("stored", kept.stored), ("duplicate", kept.duplicates), ("dead", kept.dead)):
        if n:
            metrics.count("carillon_consumer_messages_total", n, source=name, outcome=outcome)
