"""URLs of brokers."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit


def problems_of(field: str, url: str, *schemes: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a broker's URL, as (field, message) pairs; a password in it is never repeated.

    >>> list(problems_of("url", "amqp://rabbit:5672/", "amqp", "amqps"))
    []
    >>> list(problems_of("url", "http://rabbit", "amqp", "amqps"))
    [('url', 'must begin with amqp:// or amqps:// and name a host')]
    """
    try:
        parts = urlsplit(url)
        right = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right:
        yield field, f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a host"
