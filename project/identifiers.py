"""Identifiers: UUIDv7 (RFC 9562), which sort by the time they were made."""

import uuid

import uuid_utils.compat


def new_uid() -> uuid.UUID:
    """A new UUIDv7; later ones of one process are greater."""
    return uuid_utils.compat.uuid7()
