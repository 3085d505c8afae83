"""The servers of our own: they start, restart, survive a crash, clear up what was left over, and end with us."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from environ import Env

from project.embedded import Postgres, ServerError, Valkey
from tests.live import wait_until


@pytest.fixture
def directory() -> Iterator[Path]:
    """Not pytest's own: root's PostgreSQL runs as `nobody`, who may not look into that."""
    with tempfile.TemporaryDirectory(prefix="carillon-embedded-") as name:
        yield Path(name)


def test_postgresql_keeps_its_data_and_its_address_over_restarts_and_crashes(directory: Path) -> None:
    with Postgres(directory / "postgres") as postgres:
        url = postgres.create_database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept (n int)")
        postgres.restart()
        postgres.kill()
        postgres.start()
        assert postgres.create_database() == url, "a second time changes nothing"
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        pid = postgres.pid
    assert not psutil.pid_exists(pid)


def test_a_server_that_a_killed_starter_left_over_is_stopped_first(directory: Path) -> None:
    left_over = Postgres(directory / "postgres").start()
    with Postgres(directory / "postgres") as postgres:
        assert left_over.process is not None
        assert left_over.process.wait(1) == 0, "stopped in order"
        psycopg.connect(postgres.url_of("postgres")).close()


def test_a_lock_file_with_a_strangers_number_is_no_obstacle(directory: Path) -> None:
    Postgres(directory / "postgres").start().kill()
    (directory / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    with Postgres(directory / "postgres") as postgres:
        assert postgres.pid != os.getpid()


def test_a_path_too_long_for_a_socket_is_worked_around(directory: Path) -> None:
    with Postgres(directory / ("long" * 30)) as postgres:
        url = postgres.create_database()
        psycopg.connect(url).close()
        assert Env.db_url_config(url)["OPTIONS"]["host"] == str(postgres.sockets)


def test_an_impossible_option_is_told_with_the_servers_own_words(directory: Path) -> None:
    with pytest.raises(ServerError, match="no_such_option"):
        Postgres(directory / "postgres", options={"no_such_option": "1"}).start()


def test_valkey_keeps_its_port_over_restarts_and_can_be_frozen(directory: Path) -> None:
    with Valkey(directory / "valkey") as valkey:
        url = valkey.url
        valkey.restart()
        assert valkey.url == url
        with redis.Redis.from_url(url, socket_timeout=0.2) as client:
            assert client.ping()
            valkey.send_signal(signal.SIGSTOP)
            with pytest.raises(redis.exceptions.TimeoutError):
                client.ping()
            valkey.send_signal(signal.SIGCONT)
            assert client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_servers_end_when_their_starter_is_killed(directory: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from project.embedded import *; directory = Path(sys.argv[1]);"
        "servers = [Postgres(directory / 'postgres').start(), Valkey(directory / 'valkey').start()];"
        "print(*(server.pid for server in servers), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, directory], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        starter.kill()
    assert len(pids) == 2
    wait_until(lambda: not any(map(_runs, pids)), what="the end of both servers")


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
