"""/healthz and /readyz of real processes: what is missing is named, and soon."""

from __future__ import annotations

import signal
import time

import pytest
import requests

from project.models import Heartbeat
from tests.live import Live, wait_until

OK = {"database": "ok", "broker": "ok", "workers": "ok", "clock": "ok"}


def readyz(live: Live) -> tuple[int, dict[str, str]]:
    answer = requests.get(f"{live.url}/readyz", timeout=15)
    return answer.status_code, answer.json()


def alive(live: Live) -> bool:
    try:
        return requests.get(f"{live.url}/healthz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.mark.flow
def test_readyz_names_what_is_missing(live: Live) -> None:
    live.start("web")
    wait_until(lambda: alive(live), seconds=60, what="the web process")
    status, state = readyz(live)
    assert status == 503
    assert (state["database"], state["broker"]) == ("ok", "ok")
    assert all(queue in state["workers"] for queue in ("events", "workflows", "outside", "notifications"))
    assert "manage.py clock" in state["clock"]

    live.start("worker", "performer", "sender", "clock")
    live.wait_ready()
    assert readyz(live) == (200, OK)

    live.kill("sender")
    Heartbeat.objects.filter(process__startswith="sender").delete()  # 20 s later
    status, state = readyz(live)
    assert status == 503
    assert "notifications" in state["workers"]
    assert "events" not in state["workers"]

    live.valkey.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    status, state = readyz(live)
    assert time.monotonic() - began < 4
    live.valkey.send_signal(signal.SIGCONT)
    assert status == 503
    assert state["broker"] not in ("", "ok")
    assert state["database"] == "ok"

    live.postgres.stop()
    status, state = readyz(live)
    assert status == 503
    assert state["database"] != "ok"
    assert alive(live)
    assert requests.get(f"{live.url}/metrics", timeout=10).status_code == 503
    live.postgres.start()
