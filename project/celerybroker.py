"""What Celery's broker is, by its URL, and what each kind of it needs (docs/how-to/brokers.md)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit


class Kind(StrEnum):
    """The brokers that are told apart."""

    REDIS = "Redis"
    RABBITMQ = "RabbitMQ"
    SQS = "SQS"
    OTHER = "another broker"


_KINDS: Final = {
    **dict.fromkeys(("redis", "rediss", "sentinel", "unix"), Kind.REDIS),
    **dict.fromkeys(("amqp", "amqps", "pyamqp"), Kind.RABBITMQ),
    "sqs": Kind.SQS,
}

# A broker that is away must be told of soon, and not be tried for ever while somebody waits.
_SOON: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}
LONG_POLL: Final = 20  # seconds that SQS waits for a message before it answers that there is none


def kind(url: str) -> Kind:
    """
    >>> [str(kind(url)) for url in ("amqp://guest:guest@rabbitmq:5672//", "sqs://", "rediss+socket:///run/redis")]
    ['RabbitMQ', 'SQS', 'Redis']
    """
    return _KINDS.get(url.partition(":")[0].partition("+")[0], Kind.OTHER)


def is_redis_url(url: str) -> bool:
    """Whether Django's cache can use it as well."""
    return url.startswith(("redis://", "rediss://", "unix://"))


def transport_options(url: str, *, patience: float, prefix: str) -> dict[str, Any]:
    """`patience`: seconds that this process may wait for Redis. `prefix`: of the names of SQS's queues."""
    match kind(url):
        case Kind.REDIS:
            return {
                "visibility_timeout": 300,
                "unacked_restore_interval": 5,
                "unacked_restore_throttle": 2,
                "unacked_mutex_expire": 30,
                "socket_timeout": patience,
                "socket_connect_timeout": min(patience, 2),
                "socket_keepalive": True,
                "health_check_interval": 10,
                **_SOON,
            }
        case Kind.RABBITMQ:
            return {"confirm_publish": True, **_SOON}
        case Kind.SQS:
            return {
                "queue_name_prefix": prefix,
                "visibility_timeout": 60,  # of what a worker that died had fetched; a message is a bell
                "wait_time_seconds": LONG_POLL,
                "polling_interval": 0,
                "is_secure": _encrypted(url),
                "client-config": {
                    "connect_timeout": 2,
                    "read_timeout": 5,
                    "retries": {"total_max_attempts": 1},
                },
                **_SOON,
            }
    return {}


def queue_arguments(url: str) -> Mapping[str, Any]:
    """Of every queue. Quorum queues are RabbitMQ's replicated ones."""
    return {"x-queue-type": "quorum"} if kind(url) == Kind.RABBITMQ else {}


def _encrypted(url: str) -> bool:
    """SQS itself always is. What stands in for it (sqs://key:secret@localhost:4566) is not, but on port 443.

    >>> _encrypted("sqs://"), _encrypted("sqs://key:secret@localhost:4566/"), _encrypted("sqs://k:s@sqs.vpce:443")
    (True, False, True)
    """
    return urlsplit(url).port in (None, 443)
