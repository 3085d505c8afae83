"""What a step went through is remembered turn by turn, and drawn: work as work, waits as waits."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.outside import due_step
from tests.workflows.runs import drain, start, time_passes, workflow
from workflows import code, story, timeline
from workflows.actions import Action, Call, StepError, action
from workflows.models import MOST_TURNS, Run, StepRun, StepState
from workflows.timeline import Line, Span, lines_of, spans_of

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@action("test.third_time")
class ThirdTime(Action):
    """Fails twice."""

    def run(self, call: Call) -> int:
        if call.attempt < 3:
            raise StepError("not yet")
        return call.attempt


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def step(turns: list[dict[str, Any]] | None = None, **told: Any) -> dict[str, Any]:
    """A step as a story tells it: begun at 0, ended at 10."""
    ended = {"started_at": at(0).isoformat(), "finished_at": at(10).isoformat(), "state": "succeeded"}
    return {**ended, "id": "it", "uid": "u", "item": None, "round": 0, "attempts": 1, "turns": turns or [], **told}


def turn(when: float, to: str, until: float | None = None, error: str = "") -> dict[str, Any]:
    return {"at": at(when).isoformat(), "to": to, "until": at(until).isoformat() if until else None, "error": error}


def drawn(told: dict[str, Any], now: float = 100) -> list[tuple[str, float, float, str]]:
    return [
        (span.kind, (span.start - NOON).total_seconds(), (span.end - NOON).total_seconds(), span.state)
        for span in spans_of(told, at(now))
    ]


def test_the_examples_in_docstrings_hold() -> None:
    result = doctest.testmod(timeline)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("told", "spans"),
    [
        (step(), [("work", 0, 10, "succeeded")]),
        (
            step([turn(1, "pending", 4, "refused"), turn(5, "pending", 9, "refused")]),
            [
                ("work", 0, 1, "failed"),
                ("wait", 1, 4, "waiting"),
                ("work", 4, 5, "failed"),
                ("wait", 5, 9, "waiting"),
                ("work", 9, 10, "succeeded"),
            ],
        ),
        (step([turn(0, "waiting", 10)]), [("work", 0, 0, "waiting"), ("wait", 0, 10, "succeeded")]),
        (step([turn(2, "waiting")]), [("work", 0, 2, "waiting"), ("wait", 2, 10, "succeeded")]),
        (step(state="running", finished_at=None), [("work", 0, 100, "running")]),
        (step(state="pending", finished_at=None), [("wait", 0, 100, "pending")]),
        (
            step([turn(1, "pending", 200, "refused")], state="pending", finished_at=None),
            [("work", 0, 1, "failed"), ("wait", 1, 100, "pending")],
        ),
        (
            step([turn(1, "waiting")], state="waiting", finished_at=None),
            [("work", 0, 1, "waiting"), ("wait", 1, 100, "waiting")],
        ),
        (step(started_at=None), []),
    ],
    ids=[
        "at once",
        "two retries",
        "a delay",
        "asked outside",
        "under way",
        "handed over",
        "again later",
        "waits",
        "not",
    ],
)
def test_attempts_and_waits_are_told_apart(told: dict[str, Any], spans: list[Any]) -> None:
    assert drawn(told) == spans


def test_an_inside_step_remembers_the_attempts_that_failed_and_why() -> None:
    late = "  - {id: late, action: test.third_time, retry: {attempts: 3, delay: 1h}}\n"
    (run,) = start(workflow(late + "  - {id: keep, action: transform, with: {values: {a: 1}}}"), {})
    for _ in range(3):
        time_passes(2 * 3600)
    last, keep = StepRun.objects.filter(run=run).order_by("position")
    assert [turn["to"] for turn in last.turns] == ["pending", "pending"]
    assert all(turn["error"] == "not yet" and turn["at"] < turn["until"] for turn in last.turns)
    assert keep.turns is None, "what is done at once costs nothing"


def test_an_outside_step_remembers_the_attempts_that_failed_and_why(tmp_path: Path) -> None:
    row = due_step("test.work", {"file": str(tmp_path / "f"), "how": "breaks"}, retry={"attempts": 3, "delay": "1m"})
    for _ in range(3):
        code.perform_one(fatal=False)
        StepRun.objects.filter(pk=row.pk, state="pending").update(due_at=NOON)
    row.refresh_from_db()
    assert row.state == "failed"
    assert [(turn["to"], turn["error"]) for turn in row.turns] == [("pending", "RuntimeError: out\ufffdof order")] * 2
    assert all(turn["at"] < turn["until"] for turn in row.turns)


def test_a_wait_is_drawn_as_one_in_the_run_of_a_real_workflow() -> None:
    steps = "  - {id: later, action: delay, with: {for: 1h}}\n  - {id: stop, action: fail, with: {message: No more}}\n"
    (run,) = start(workflow(steps), {})
    drain()
    time_passes(3601)
    run.refresh_from_db()
    (told,) = story.tell([Run.objects.get()])
    later, stop = lines_of(told, datetime.now(UTC))
    assert (later.state, [span.kind for span in later.spans][-1]) == ("succeeded", "wait")
    assert (stop.state, [span.kind for span in stop.spans]) == ("failed", ["work"])


def test_only_the_newest_turns_are_remembered() -> None:
    row = StepRun(state=StepState.WAITING)
    for number in range(MOST_TURNS + 5):
        row.turn(at(number))
    assert len(row.turns) == MOST_TURNS
    assert datetime.fromisoformat(row.turns[-1]["at"]) == at(MOST_TURNS + 4)


def test_bars_lie_on_the_sheet_and_can_be_seen_however_short_they_are() -> None:
    spans = (Span("work", at(0), at(3600), "succeeded"),), (Span("work", at(3600), at(3600.001), "failed"),)
    sheet = timeline.timeline(
        [Line("long", "#a", 0, "succeeded", spans[0]), Line("short", "#b", 0, "failed", spans[1])]
    )
    assert sheet is not None
    bars = [bar for row in sheet.rows for bar in row.bars]
    assert all(bar.left >= 0 and bar.width >= timeline.THINNEST and bar.left + bar.width <= 100.01 for bar in bars)


def test_a_sheet_has_an_end_however_many_steps_there_are() -> None:
    line = Line("it", "#a", 0, "succeeded", (Span("work", at(0), at(1), "succeeded"),))
    sheet = timeline.timeline([line] * 1000)
    assert sheet is not None
    assert (len(sheet.rows), sheet.left_out) == (timeline.MOST_ROWS, 1000 - timeline.MOST_ROWS)
    assert timeline.timeline([]) is None
