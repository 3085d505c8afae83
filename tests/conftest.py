"""What every test may ask for: servers of our own, a far side of the network, real processes, a browser."""

from collections.abc import Iterator

import pytest
import redis

from tests import servers


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The session's Valkey, empty before and after the test."""
    with redis.Redis.from_url(servers.valkey.url) as client:
        client.flushall()
        yield servers.valkey.url
        client.flushall()
