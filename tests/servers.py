"""PostgreSQL and Valkey for a test session, started before Django reads its settings (pyproject.toml loads it)."""

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from project.embedded import Postgres, Valkey
from tests.nursery import Nursery

directory: Path
postgres: Postgres
valkey: Valkey
nursery: Nursery

ENVIRONMENT = {
    "SECRET_KEY": "tests",
    "SECRET_KEYS": "6MwGmoPHmdPjXdvtYQ1Fq3Ee6TTUkkq0sXyv7qkIuZk=",
    "DEBUG": "1",
    "CARILLON_PROCESS": "tests",
    "CARILLON_APPS": "examples.ops",
    "WORKFLOW_MODELS": "ops.Incident,ops.Order",
    "WORKFLOW_TASKS": "billing.*",
    "EMAIL_URL": "smtp://127.0.0.1:1",  # nobody is there: a test that sends mail brings its own server
    "OUTBOUND_ALLOW": "127.0.0.1",
    "LOG_LEVEL": "WARNING",
}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Start the servers and name them in the environment; pytest-django reads the settings inside this hook."""
    early_config.add_cleanup(stop)
    start()
    return (yield)


def start() -> None:
    """Start both servers and name them in the environment, before Django reads its settings; `stop` afterwards."""
    global directory, postgres, valkey, nursery
    directory = Path(tempfile.mkdtemp(prefix="carillon-tests-"))
    postgres = Postgres(directory / "postgres", durable=False)
    valkey = Valkey(directory / "valkey")
    postgres.start()
    valkey.start()
    nursery = Nursery()
    for name in ("ALLOWED_HOSTS", "HTTPS", "BEHIND_PROXY", "CARILLON_URL", "FLOWER_URL", "CARILLON_OFFLINE"):
        os.environ.pop(name, None)
    os.environ.update(
        ENVIRONMENT,
        DATA_DIR=str(directory),
        DATABASE_URL=postgres.url,
        REDIS_URL=valkey.url,
        CELERY_BROKER_URL=valkey.url,
        WORKFLOW_DATABASES=f"warehouse=sqlite:///{directory}/warehouse.db",  # for examples; there is no such file
    )


def stop() -> None:
    nursery.close()
    for server in (valkey, postgres):
        server.stop()
    shutil.rmtree(directory)
