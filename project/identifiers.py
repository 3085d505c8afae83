"""Identifiers: UUIDv7 (RFC 9562), which sort by the time they were made."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

import uuid_utils.compat

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OWN_SOURCE: Final = "/carillon"  # the CloudEvents source of what Carillon itself makes


def new_uid() -> uuid.UUID:
    """A new UUIDv7; later ones of one process are greater."""
    return uuid_utils.compat.uuid7()


def first_uid_at(moment: datetime) -> uuid.UUID:
    """The smallest UUIDv7 of that millisecond: what was made earlier sorts before it, what is made later behind it.

    >>> first_uid_at(datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC))
    UUID('017f22e2-79b0-7000-8000-000000000000')
    """
    milliseconds = (max(moment, EPOCH) - EPOCH) // timedelta(milliseconds=1)
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62)


def made_at(uid: uuid.UUID) -> datetime:
    """When a UUIDv7 was made, to the millisecond.

    >>> made_at(uuid.UUID('017f22e2-79b0-7cc3-98c4-dc0c0c07398f'))
    datetime.datetime(2022, 2, 22, 19, 22, 22, tzinfo=datetime.timezone.utc)
    """
    return EPOCH + timedelta(milliseconds=uid.int >> 80)
