"""Django's cache on Redis, with clients that are kept."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends import redis


class KeptClients(redis.RedisCacheClient):
    """Django makes a client for every command, which costs twice the command: redis-py 8 fills a dictionary for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept: dict[bool, Any] = {}

    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        if write not in self._kept:  # there is one server, so it is the same for all keys
            self._kept[write] = super().get_client(key, write=write)
        return self._kept[write]


class RedisCache(redis.RedisCache):
    """The same cache, for the same settings."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = KeptClients
