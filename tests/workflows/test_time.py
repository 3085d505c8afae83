"""Steps that wait for a time: delay, throttle, debounce, digest."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from tests.workflows.runs import drain, outcome, start, state, time_passes, workflow
from workflows import engine
from workflows.definition import DefinitionError
from workflows.models import Gate, Gathered, Record, Run, StepRun
from workflows.tasks import close

pytestmark = pytest.mark.django_db(transaction=True)

KEEP = '  - {id: keep, action: record.put, with: {collection: kept, key: "${{ event.name }}", value: "${{ steps }}"}}\n'


def kept() -> list[str]:
    return list(Record.objects.filter(collection="kept").order_by("pk").values_list("key", flat=True))


def test_a_delay_goes_on_when_its_time_has_come() -> None:
    (run,) = start(workflow("  - {id: later, action: delay, with: {for: 1h}}\n" + KEEP), {"name": "a"}, at_once=True)
    run.refresh_from_db()
    assert (run.state, outcome(run)) == ("waiting", {"later": "waiting"})
    assert run.due_at is not None
    assert timedelta(minutes=59) < run.due_at - timezone.now() <= timedelta(hours=1)
    time_passes(3590)
    assert (state(run), kept()) == ("waiting", [])
    time_passes(11)
    assert (state(run), kept()) == ("succeeded", ["a"])


def test_a_timer_that_came_due_while_everything_was_stopped_is_done_once() -> None:
    runs = start(
        workflow("  - {id: later, action: delay, with: {for: 1h}}\n" + KEEP), *({"name": str(n)} for n in range(5))
    )
    drain()
    time_passes(7 * 24 * 3600)
    assert [state(run) for run in runs] == ["succeeded"] * 5
    assert sorted(kept()) == ["0", "1", "2", "3", "4"]


def test_a_delay_until_a_time_that_is_over_is_done_at_the_next_look() -> None:
    given = {"name": "a", "at": datetime(2020, 1, 1, tzinfo=UTC).isoformat()}
    (run,) = start(workflow('  - {id: later, action: delay, with: {until: "${{ event.at }}"}}\n' + KEEP), given)
    drain()
    assert state(run) == "succeeded"


@pytest.mark.parametrize("at", ["2030-01-01T12:00:00", "soon", 7, None])
def test_a_time_without_its_offset_is_refused(at: Any) -> None:
    (run,) = start(workflow('  - {id: later, action: delay, with: {until: "${{ event.at }}"}}\n'), {"at": at})
    drain()
    run.refresh_from_db()
    assert run.state == "failed"
    assert "until" in run.error


def test_branches_do_not_wait_for_each_other() -> None:
    graph = (
        "  - {id: long, needs: [], action: delay, with: {for: 2h}}\n"
        "  - {id: short, needs: [], action: delay, with: {for: 1h}}\n"
        "  - {id: after_short, needs: [short], action: transform, with: {values: 1}}\n"
    )
    (run,) = start(workflow(graph), {})
    drain()
    time_passes(3601)
    assert outcome(run) == {"long": "waiting", "short": "succeeded", "after_short": "succeeded"}
    time_passes(3601)
    assert state(run) == "succeeded"


def test_a_throttle_lets_pass_no_more_than_its_limit_in_any_span() -> None:
    w = workflow('  - {id: gently, action: throttle, with: {key: "${{ event.key }}", limit: 2, per: 1h}}\n' + KEEP)
    start(w, *({"name": f"a{n}", "key": "a"} for n in range(5)), {"name": "b", "key": "b"})
    drain()
    assert kept() == ["a0", "a1", "b"]
    time_passes(3601)
    assert kept() == ["a0", "a1", "b", "a2", "a3"]
    start(w, {"name": "a5", "key": "a"})
    drain()
    time_passes(3601)
    assert kept() == ["a0", "a1", "b", "a2", "a3", "a4", "a5"]


def test_turns_that_were_missed_in_a_standstill_are_not_taken_all_at_once() -> None:
    w = workflow("  - {id: gently, action: throttle, with: {limit: 2, per: 1m}}\n" + KEEP)
    start(w, *({"name": f"a{n}"} for n in range(9)))
    drain()
    assert kept() == ["a0", "a1"]
    time_passes(3600)
    assert kept() == ["a0", "a1", "a2", "a3"]
    time_passes(61)
    assert kept() == [f"a{n}" for n in range(6)]
    time_passes(61)
    time_passes(61)
    assert kept() == [f"a{n}" for n in range(9)]


def test_of_a_row_of_runs_only_the_last_goes_on() -> None:
    w = workflow("  - {id: settle, action: debounce, with: {quiet: 10m}}\n" + KEEP)
    runs = start(w, {"name": "a"}, {"name": "b"})
    drain()
    time_passes(300)
    runs += start(w, {"name": "c"})
    drain()
    time_passes(301)
    assert kept() == []
    assert [state(run) for run in runs] == ["succeeded", "succeeded", "waiting"]
    assert StepRun.objects.get(run=runs[0]).output.keys() == {"superseded_by"}
    time_passes(300)
    assert kept() == ["c"]
    assert StepRun.objects.get(run=runs[2], step="settle").output == {"runs": 3}
    time_passes(24 * 3600)
    assert close() == {"gates": 1}


def test_a_debounce_goes_on_at_the_latest_when_it_must() -> None:
    w = workflow("  - {id: settle, action: debounce, with: {quiet: 10m, at_most: 15m}}\n" + KEEP)
    for name in "abcd":
        start(w, {"name": name})
        drain()
        time_passes(301)
    # a came 1,204 s ago, so one had to go on 900 s after it; d began a row of its own
    assert kept() == ["c"]


def test_a_digest_goes_on_once_with_what_all_brought() -> None:
    settings = '{key: "${{ event.key }}", window: 10m, collect: "${{ event.name }}"}'
    w = workflow(f"  - {{id: gather, action: digest, with: {settings}}}\n" + KEEP)
    runs = start(w, *({"name": name, "key": "x"} for name in "abc"), {"name": "other", "key": "y"})
    drain()
    time_passes(300)
    runs += start(w, {"name": "d", "key": "x"})
    drain()
    assert [state(run) for run in runs] == ["waiting", "succeeded", "succeeded", "waiting", "succeeded"]
    time_passes(301)
    assert sorted(kept()) == ["a", "other"]
    gathered = StepRun.objects.get(run=runs[0], step="gather")
    assert gathered.output == {"count": 4, "items": ["a", "b", "c", "d"]}
    assert StepRun.objects.get(run=runs[1]).output == {"merged_into": str(gathered.uid)}
    assert not Gathered.objects.exists()
    assert not Gate.objects.exists()


def test_a_digest_ends_at_the_time_that_its_cron_names() -> None:
    (run,) = start(
        workflow("  - {id: gather, action: digest, with: {cron: 0 9 * * *, time_zone: Europe/Berlin}}\n"), {}
    )
    drain()
    run.refresh_from_db()
    assert run.due_at is not None
    at = run.due_at.astimezone(ZoneInfo("Europe/Berlin"))
    assert (at.hour, at.minute) == (9, 0)
    assert timedelta() < at - timezone.now() <= timedelta(days=1, hours=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{}", "say either how long, `window: 10m`, or when"),
        ("{window: 1h, cron: 0 9 * * *}", "say either how long"),
        ("{cron: soon}", '"soon" has 1 fields'),
        ("{cron: 0 9 * * *, time_zone: Mars}", 'unknown time zone "Mars"'),
        ("{window: 1h, time_zone: UTC}", "there is no `cron`"),
    ],
)
def test_a_digest_without_an_end_is_refused(settings: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(message)):
        workflow(f"  - {{id: gather, action: digest, with: {settings}}}\n")


def test_what_was_brought_to_a_run_that_was_cancelled_is_for_the_next() -> None:
    w = workflow('  - {id: gather, action: digest, with: {window: 10m, collect: "${{ event.name }}"}}\n' + KEEP)
    first, *_ = start(w, {"name": "a"}, {"name": "b"})
    drain()
    assert engine.cancel(Run.objects.filter(pk=first.pk), reason="no") == 1
    (last,) = start(w, {"name": "c"})
    drain()
    time_passes(601)
    assert StepRun.objects.get(run=last, step="gather").output == {"count": 3, "items": ["a", "b", "c"]}


def test_a_gate_that_nobody_needs_any_more_is_removed() -> None:
    start(workflow("  - {id: gently, action: throttle, with: {per: 1h}}\n"), {})
    drain()
    assert close() == {}
    time_passes(7201)
    assert close() == {"gates": 1}
    assert not Gate.objects.exists()
