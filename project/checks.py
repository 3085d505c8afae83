"""What can be wrong in the settings, found when a process starts."""

from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def secret_keys(**kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for number, key in enumerate(settings.SECRET_KEYS, start=1):
        try:
            Fernet(key)
        except ValueError:
            found.append(
                Error(
                    f"SECRET_KEYS: key {number} is not a Fernet key (32 bytes in url-safe base64).",
                    hint="One is made by cryptography.fernet.Fernet.generate_key(); .env.example has the command.",
                    id="carillon.E001",
                )
            )
    return found


@register()
def redis_url(**kwargs: Any) -> list[CheckMessage]:
    if settings.REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
        return []
    return [
        Error(
            f"REDIS_URL: {settings.REDIS_URL!r} is not a Redis address.", hint="redis://host:6379/0", id="carillon.E002"
        )
    ]
