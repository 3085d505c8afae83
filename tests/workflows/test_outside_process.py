"""Outside steps in real workers: killed, out of time, holding the interpreter, many at once, a host that hangs."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F
from kombu import Connection

from project.celery import app
from tests.live import Live, wait_until
from tests.sinks import Answer, HttpSink
from tests.workflows.outside import due_step, due_steps
from workflows.models import StepRun

pytestmark = pytest.mark.flow


@pytest.fixture
def live(live: Live) -> Live:
    live.environment["CARILLON_APPS"] = "examples.ops,tests.workflows.foreign"
    return live


def ring(live: Live, stage: str) -> None:
    with Connection(live.valkey.url) as sending:
        app.send_task(stage, connection=sending)


def attempts(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def ended(step: StepRun, *, seconds: float = 40) -> StepRun:
    def done() -> bool:
        step.refresh_from_db()
        return step.finished_at is not None

    wait_until(done, seconds=seconds, what="the end of the step")
    return step


def test_a_worker_killed_during_a_step_costs_an_attempt_and_on_the_last_one_the_step(
    live: Live, tmp_path: Path
) -> None:
    file = tmp_path / "attempts"
    step = due_step("test.work", {"file": str(file), "seconds": 60}, timeout="90s")
    live.start("performer", "clock")
    for attempt in (1, 2):
        wait_until(lambda: attempts(file) == attempt, seconds=60, what=f"attempt {attempt}")  # noqa: B023
        live.kill("performer")
        StepRun.objects.update(due_at=F("due_at") - timedelta(seconds=110))  # the lease, without the waiting
        live.start("performer")
    ended(step, seconds=60)
    assert (step.state, step.attempts) == ("failed", 2)
    assert step.error == "the process died during attempt 2 of 2, or took longer than 1m30s"
    assert attempts(file) == 2


def test_a_step_over_its_time_is_stopped_and_tried_again(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "attempts"
    with_ = {"file": str(file), "seconds": 60, "how": "sleeps on the first attempt"}
    step = due_step("test.work", with_, timeout="2s")
    live.start("performer", "clock")
    began = time.monotonic()
    ended(step)
    assert (step.state, step.output["attempt"]) == ("succeeded", 2)
    assert time.monotonic() - began < 30
    assert "WorkerLostError" not in live.log("performer").read_text(), "no process had to die"


def test_no_step_outlives_its_time(live: Live, tmp_path: Path) -> None:
    live.start("performer", "clock")
    died = "the process died during attempt 1 of 1, or took longer than 1s"
    for how, told, dies in (
        ("swallows what is Exception", "took longer than 1s", False),
        ("matches", "took longer than 1s", False),
        ("swallows all", died, True),
        ("holds the interpreter", died, True),
    ):
        read = len(live.log("performer").read_text())
        step = due_step("test.work", {"file": str(tmp_path / how), "how": how}, timeout="1s", retry={"attempts": 1})
        ring(live, "workflows.perform")
        ended(step)
        assert (step.state, step.error) == ("failed", told), how
        log = live.log("performer").read_text()[read:]
        assert ("Timeout (0:00:04)!" in log) == dies, how
        if dies:
            assert "tests/workflows/foreign/actions.py" in log, "the log says where it was"
        after = due_step("test.work", {"file": str(tmp_path / f"after {how}")})
        ring(live, "workflows.perform")
        assert ended(after).state == "succeeded", f"the worker goes on after one that {how}"


def test_without_redis_the_clock_has_steps_of_code_done(live: Live, tmp_path: Path) -> None:
    live.environment["CLOCK_DRAINS_AFTER"] = "1"
    live.valkey.stop()
    live.start("clock")
    slow = due_step("test.work", {"file": str(tmp_path / "a"), "seconds": 3})
    stuck = due_step(
        "test.work", {"file": str(tmp_path / "b"), "how": "holds the interpreter"}, timeout="1s", retry={"attempts": 1}
    )
    assert ended(slow, seconds=60).state == "succeeded"
    assert ended(stuck, seconds=60).state == "failed"
    live.valkey.start()


def requests(urls: list[str], **step: Any) -> list[StepRun]:
    return due_steps("http.request", {"url": "${{ event.url }}"}, [{"url": url} for url in urls], **step)


def test_200_requests_wait_for_a_slow_host_side_by_side(live: Live, http_sink: HttpSink) -> None:
    http_sink.answers["/slow"] = [Answer(delay=2, body=b'{"n": 1}', headers={"Content-Type": "application/json"})]
    live.start("sender")
    ready = due_step("http.request", {"url": http_sink.url("/ready")})
    ring(live, "workflows.request")
    ended(ready, seconds=60)
    requests([http_sink.url("/slow")] * 200)
    began = time.monotonic()
    ring(live, "workflows.request")
    wait_until(lambda: StepRun.objects.filter(state="succeeded").count() == 201, seconds=30, what="200 answers")
    assert time.monotonic() - began < 10, "one after the other it would take 400 s"
    first, *_, last = sorted(request.at for request in http_sink.to("/slow"))
    assert last - first < 2, "all were under way before the first came back"
    assert {step.output["body"]["n"] for step in StepRun.objects.filter(input__url__endswith="slow")} == {1}


def test_a_host_that_hangs_leaves_slots_to_the_others(live: Live, http_sink: HttpSink) -> None:
    other = HttpSink().start()
    http_sink.answers["/hang"] = [Answer(delay=30)]
    requests([http_sink.url("/hang")] * 1500)
    live.start("sender", "clock")
    http_sink.wait_for(100, "/hang", seconds=60)
    time.sleep(1)
    assert len(http_sink.requests) == 200, "half of the slots, and no more"
    for n in range(5):
        began = time.monotonic()
        requests([other.url(f"/{n}")] * 20)
        ring(live, "workflows.request")
        other.wait_for(20, f"/{n}", seconds=10)
        wait_until(lambda: StepRun.objects.filter(state="succeeded").count() == 20 * (n + 1))  # noqa: B023
        assert time.monotonic() - began < 10
    other.stop()


def test_sigterm_gives_back_what_it_breaks_off(live: Live, http_sink: HttpSink) -> None:
    http_sink.answers["/hang"] = [Answer(delay=60), Answer()]
    (step,) = requests([http_sink.url("/hang")], timeout="2m", retry={"attempts": 1})
    live.start("sender", "clock")
    http_sink.wait_for(1, seconds=60)
    live.stop("sender")
    step.refresh_from_db()
    assert (step.state, step.error) == ("pending", "broken off because the process was stopped")
    live.start("sender")
    assert ended(step).state == "succeeded", "a stop costs nobody the last attempt"
