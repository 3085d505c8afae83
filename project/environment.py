"""The environment as configuration may see it: `${NAME}` in a channel's or source's settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

OWN: Final = frozenset(
    {"SECRET_KEY", "SECRET_KEYS", "DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "EMAIL_URL", "FLOWER_BASIC_AUTH"}
    | {"CARILLON_API_KEY", "CARILLON_ADMIN_PASSWORD", "WORKFLOW_DATABASES"}
)


class Shared(Mapping[str, str]):
    """The process's variables as they are now, without Carillon's own secrets.

    Whoever may edit a channel could otherwise have the database's password sent to an address of theirs.
    """

    def __getitem__(self, name: str) -> str:
        if name in OWN:
            raise KeyError(name)
        return os.environ[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in os.environ if name not in OWN)

    def __len__(self) -> int:
        return sum(1 for _ in self)
