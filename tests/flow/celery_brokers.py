"""What Celery may run on instead of Redis: the environment of a Carillon that has none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

from tests.brokers.counterparts import ACCESS_KEY, PASSWORD, Absent, Sqs, counterpart, program


@contextmanager
def on_rabbitmq(directory: Path) -> Iterator[dict[str, str]]:
    """A virtual host of its own, by way of the session's proxy."""
    proxy, name = counterpart("rabbitmq", directory).proxy, f"carillon-{uuid4().hex[:12]}"
    if not _rabbitmqctl("add_vhost", name):
        raise Absent("rabbitmqctl may not make a virtual host here")
    try:
        assert _rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        yield {"CELERY_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{proxy.port}/{name}", "REDIS_URL": ""}
    finally:
        _rabbitmqctl("delete_vhost", name)


@contextmanager
def on_sqs(directory: Path) -> Iterator[dict[str, str]]:
    """A server of its own: the queues have the same names each time."""
    if find_spec("pycurl") is None:
        raise Absent("Celery on SQS needs pycurl: pip install -r requirements-brokers.txt")
    sqs = Sqs()
    sqs.start(directory)
    try:
        url = f"sqs://{ACCESS_KEY}:{PASSWORD}@127.0.0.1:{sqs.proxy.port}/"
        yield {"CELERY_BROKER_URL": url, "REDIS_URL": "", "AWS_DEFAULT_REGION": "eu-west-1"}
    finally:
        sqs.stop()


def _rabbitmqctl(*arguments: str) -> bool:
    """Whether it could."""
    return subprocess.run([program("rabbitmqctl"), *arguments], capture_output=True, timeout=30).returncode == 0
