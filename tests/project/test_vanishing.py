"""PostgreSQL's host vanishes: nothing refuses, nothing answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

ALONE = ("unshare", "--net")


def has_networks() -> bool:
    """Whether we may have a network of our own: Linux, as root."""
    if not all(map(shutil.which, ("unshare", "ip"))):
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, timeout=5).returncode == 0


@pytest.mark.django_db
@pytest.mark.skipif(not has_networks(), reason="no network of our own here: needs root, unshare and ip")
def test_a_server_that_vanishes_is_given_up() -> None:
    parameters = {
        name: value for name, value in connection.get_connection_params().items() if isinstance(value, str | int)
    }
    path = Path(str(parameters["host"])) / f".s.PGSQL.{parameters.get('port') or 5432}"
    command = [*ALONE, sys.executable, "-m", "tests.project.vanishing", str(path), json.dumps(parameters)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    seconds, _, error = done.stdout.partition(" ")
    assert "timed out" in error
    assert 9 < float(seconds) < 20
