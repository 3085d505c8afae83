"""What can be wrong in the settings, found when a process starts."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from project.celerybroker import Kind, is_redis_url, kind
from project.databases import DIALECTS, place


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
    if not settings.REDIS_URL or is_redis_url(settings.REDIS_URL):
        return []
    return [
        Error(
            f"REDIS_URL: {settings.REDIS_URL!r} is not a Redis address.", hint="redis://host:6379/0", id="carillon.E002"
        )
    ]


@register()
def broker(**kwargs: Any) -> list[CheckMessage]:
    """What the broker's client needs is optional."""
    needs = {Kind.SQS: ("boto3", "pycurl")}.get(kind(settings.CELERY_BROKER_URL), ())
    if not (missing := [package for package in needs if not find_spec(package)]):
        return []
    return [
        Error(
            f"CELERY_BROKER_URL: {kind(settings.CELERY_BROKER_URL)} needs what is not installed: {', '.join(missing)}.",
            hint="pip install -r requirements-brokers.txt",
            id="carillon.E005",
        )
    ]


@register()
def workflow_databases(**kwargs: Any) -> list[CheckMessage]:
    return list(_workflow_databases())


def _workflow_databases() -> Iterator[CheckMessage]:
    own = settings.DATABASES["default"]
    here = place(own["HOST"] or own["OPTIONS"].get("host", ""), own["PORT"], own["NAME"])
    for name, database in settings.WORKFLOW_DATABASES.items():
        missing = [
            package for package in ("sqlalchemy", DIALECTS[database.dialect]) if package and not find_spec(package)
        ]
        if missing:
            yield Error(
                f"WORKFLOW_DATABASES: {name} needs what is not installed: {', '.join(missing)}.",
                hint="pip install -r requirements-sql.txt",
                id="carillon.E003",
            )
        if database.place == here:
            yield Error(
                f"WORKFLOW_DATABASES: {name} is Carillon's own database (DATABASE_URL), which nothing else may change.",
                hint="Models of your own that are in it can be written by `database.*`; name them in WORKFLOW_MODELS.",
                id="carillon.E004",
            )
