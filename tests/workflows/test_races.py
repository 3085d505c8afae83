"""Two workers at once on the real database: what must hold whoever comes first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from tests.workflows.runs import drain, move_back, start, state, workflow
from workflows import engine, waits
from workflows.actions import StepError
from workflows.models import ACTIVE, Run, StepRun, WorkflowVersion
from workflows.waits import Answer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

ROUNDS = 5


def at_once(*doings: Callable[[], Any]) -> list[Any]:
    """Do all of them at the same time, each in a thread with its own connection; what they return or raise."""
    results: list[Any] = [None] * len(doings)
    barrier = threading.Barrier(len(doings))

    def do(at: int) -> None:
        try:
            barrier.wait()
            results[at] = doings[at]()
        except Exception as error:
            results[at] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=do, args=(at,)) for at in range(len(doings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def worker(until: threading.Event) -> Callable[[], int]:
    """Advances what is due, in small batches, until it is told to stop and nothing is due."""

    def work() -> int:
        done = 0
        while True:
            last = until.is_set()
            counts = engine.advance()
            done += counts.get("runs", 0)
            if not counts:
                if last:
                    return done
                time.sleep(0.005)

    return work


def started(version: WorkflowVersion, given: dict[str, Any]) -> Run:
    """A run that is done at once if that can be, as routing does it."""
    try:
        return start(version, given, at_once=True)[0]
    except (OperationalError, StepError):
        return start(version, given)[0]


def with_workers(n: int, *doings: Callable[[], Any]) -> list[Any]:
    """Do these things at once beside `n` workers, who stop when they are done; what the doings return or raise."""
    until, left = threading.Event(), [len(doings)]
    lock = threading.Lock()

    def counted(doing: Callable[[], Any]) -> Callable[[], Any]:
        def do() -> Any:
            try:
                return doing()
            finally:
                with lock:
                    left[0] -= 1
                    if not left[0]:
                        until.set()

        return do

    results = at_once(*(counted(doing) for doing in doings), *([worker(until)] * n))
    raised = [result for result in results[len(doings) :] if isinstance(result, Exception)]
    assert not raised, raised
    return results[: len(doings)]


def settle(most: float = 20.0) -> None:
    """Drain until nothing is under way but waits without a time; what is due within seconds is waited for."""
    end = time.monotonic() + most
    while time.monotonic() < end:
        drain()
        if not Run.objects.filter(state__in=ACTIVE, due_at__isnull=False).exists():
            return
        move_back(5)


def active(slot: str) -> int:
    return Run.objects.filter(slot=slot, state__in=ACTIVE, queued=False).count()


def keyed(limit: int, on_conflict: str, steps: str) -> WorkflowVersion:
    rule = f'concurrency: {{key: "${{{{ event.key }}}}", limit: {limit}, on_conflict: {on_conflict}}}'
    return workflow(steps, rest=rule)


def test_no_more_runs_are_at_work_than_may_be_and_none_stays_in_the_queue() -> None:
    version = keyed(2, "queue", "  - {id: a, action: approval}\n")
    made = [{"key": f"k{n % 3}"} for n in range(30)]
    until = threading.Event()
    seen: list[int] = []

    def starts(part: list[dict[str, Any]]) -> Callable[[], None]:
        def do() -> None:
            for given in part:
                start(version, given)

        return do

    def answer() -> None:
        while not until.is_set():
            seen.extend(active(f"w:k{n}") for n in range(3))
            waiting = list(StepRun.objects.filter(state="waiting").values_list("pk", flat=True)[:2])
            waits.complete({pk: Answer({"outcome": "approved"}) for pk in waiting})
            if not Run.objects.filter(state__in=ACTIVE).exists() and Run.objects.count() == len(made):
                return
            time.sleep(0.005)

    threading.Timer(60, until.set).start()
    with_workers(3, starts(made[::2]), starts(made[1::2]), answer)
    until.set()
    assert max(seen) <= 2
    assert set(Run.objects.values_list("state", flat=True)) == {"succeeded"}, Run.objects.filter(
        state__in=ACTIVE
    ).values("slot", "queued", "due_at", "steps")


@pytest.mark.parametrize("on_conflict", ["skip", "replace"])
def test_of_many_at_once_one_is_at_work(on_conflict: str) -> None:
    version = keyed(1, on_conflict, "  - {id: a, action: approval}\n")
    for _ in range(ROUNDS):
        Run.objects.all().delete()
        with_workers(
            2, *[lambda: start(version, {"key": "k"}, at_once=True)] * 3, *[lambda: start(version, {"key": "k"})] * 3
        )
        settle()
        states = sorted(Run.objects.values_list("state", flat=True))
        assert states == ["cancelled"] * 5 + ["waiting"]
        assert active("w:k") == 1
        last = Run.objects.order_by("uid").last()
        assert last is not None
        if on_conflict == "replace":
            assert last.state == "waiting"


def test_a_place_that_becomes_free_while_others_queue_is_taken() -> None:
    """One that ends and one that comes want each other's locks, in several places: nobody waits in a circle."""
    version = keyed(1, "queue", "  - {id: a, action: transform, with: {values: 1}}\n")
    with_workers(
        3, *[lambda: [start(version, *({"key": f"k{n % 4}"} for n in range(8))) for _ in range(5)] for _ in range(2)]
    )
    settle()
    assert set(Run.objects.values_list("state", flat=True)) == {"succeeded"}
    assert Run.objects.count() == 80


def test_what_is_brought_to_a_digest_while_it_ends_is_told_once() -> None:
    version = workflow('  - {id: gather, action: digest, with: {key: k, window: 1m, collect: "${{ event.n }}"}}\n')
    numbers = iter(range(10_000))
    lock = threading.Lock()

    def bring() -> None:
        for _ in range(15):
            with lock:
                n = next(numbers)
            if n % 2:
                started(version, {"n": n})
            else:
                start(version, {"n": n})

    def windows_end() -> None:
        for _ in range(15):
            StepRun.objects.filter(state="waiting").update(due_at=datetime(2020, 1, 1, tzinfo=UTC))
            Run.objects.filter(state="waiting").update(due_at=datetime(2020, 1, 1, tzinfo=UTC))
            time.sleep(0.01)

    with_workers(2, bring, bring, windows_end)
    move_back(1 * 3600)
    settle()
    assert set(Run.objects.values_list("state", flat=True)) == {"succeeded"}
    told = [n for row in StepRun.objects.all() for n in (row.output.get("items") or ())]
    assert sorted(told) == list(range(30))
    counts = [row.output["count"] for row in StepRun.objects.all() if "count" in row.output]
    assert all(counts), counts


def test_a_throttle_gives_each_turn_once() -> None:
    version = workflow("  - {id: gently, action: throttle, with: {key: k, limit: 3, per: 1m}}\n")
    with_workers(3, *[lambda: [start(version, {}) for _ in range(10)]] * 2)
    while Run.objects.filter(state__in=ACTIVE).exists():
        move_back(1 * 60)
        with_workers(2, lambda: None)
    turns = sorted(datetime.fromisoformat(row.output["at"]) for row in StepRun.objects.all())
    assert len(turns) == 20
    for early, late in zip(turns, turns[3:], strict=False):
        assert late - early >= timedelta(minutes=1)


def test_of_an_answer_and_the_end_of_the_time_one_wins() -> None:
    version = workflow("  - {id: a, action: approval, with: {timeout: 1h}}\n")
    wins = set()
    for _ in range(ROUNDS * 3):
        (run,) = start(version, {}, at_once=True)
        row = StepRun.objects.get(run=run)
        move_back(2 * 3600)
        (answered,) = with_workers(1, partial(waits.complete, {row.pk: Answer({"outcome": "approved"})}))
        run.refresh_from_db()
        row.refresh_from_db()
        assert (run.state, row.state) == ("succeeded", "succeeded")
        assert row.output["outcome"] == ("approved" if answered else "timed_out")
        assert run.steps["a"]["outcome"] == row.output["outcome"]
        wins.add(bool(answered))


def test_of_an_answer_and_a_cancel_one_wins() -> None:
    version = workflow("  - {id: a, action: approval}\n  - {id: b, action: approval}\n")
    for _ in range(ROUNDS * 3):
        (run,) = start(version, {}, at_once=True)
        row = StepRun.objects.get(run=run)
        answered, cancelled = with_workers(
            1,
            partial(waits.complete, {row.pk: Answer({"outcome": "approved"})}),
            partial(engine.cancel, Run.objects.filter(pk=run.pk), reason="test"),
        )
        row.refresh_from_db()
        assert cancelled == 1
        assert state(run) == "cancelled"
        assert row.state == ("succeeded" if answered else "cancelled")
        assert not StepRun.objects.filter(run=run, state__in=("waiting", "pending")).exists()


def test_of_two_answers_one_counts() -> None:
    version = workflow("  - {id: a, action: approval}\n")
    for _ in range(ROUNDS):
        (run,) = start(version, {}, at_once=True)
        row = StepRun.objects.get(run=run)
        results = with_workers(
            1, *(partial(waits.complete, {row.pk: Answer({"outcome": o})}) for o in ("approved", "rejected"))
        )
        assert sorted(map(len, results)) == [0, 1]
        row.refresh_from_db()
        assert row.output["outcome"] == ("approved" if results[0] else "rejected")


def test_a_parent_is_cancelled_while_its_child_ends() -> None:
    workflow("  - {id: a, action: approval}\n", name="child")
    version = workflow(
        "  - {id: run, for_each: [1, 2, 3], action: workflow.run, with: {workflow: child}}\n", name="parent"
    )
    for _ in range(ROUNDS):
        (parent,) = start(version, {}, at_once=True)
        drain()
        rows = list(StepRun.objects.filter(action="approval", state="waiting").values_list("pk", flat=True))
        assert len(rows) == 3
        waits.complete({pk: Answer({"outcome": "approved"}) for pk in rows})
        (cancelled,) = with_workers(2, partial(engine.cancel, Run.objects.filter(pk=parent.pk), reason="test"))
        settle()
        assert not isinstance(cancelled, Exception), cancelled
        parent.refresh_from_db()
        assert parent.state == ("cancelled" if cancelled else "succeeded")
        assert not Run.objects.filter(state__in=ACTIVE).exists()
        assert not StepRun.objects.filter(state__in=("waiting", "pending", "running")).exists()


def test_children_that_end_in_two_batches_wake_their_parents() -> None:
    workflow("  - {id: a, action: transform, with: {values: 1}}\n", name="child")
    version = workflow(
        "  - {id: run, for_each: [1, 2, 3, 4], action: workflow.run, with: {workflow: child}}\n", name="p"
    )
    with_workers(3, *[lambda: [start(version, {}, {}, {}) for _ in range(4)]] * 2)
    settle()
    assert set(Run.objects.values_list("state", flat=True)) == {"succeeded"}
    assert Run.objects.count() == 24 * 5


def test_a_run_that_is_cancelled_while_it_is_advanced_ends_once() -> None:
    version = workflow("".join(f"  - {{id: s{n}, action: transform, with: {{values: 1}}}}\n" for n in range(5)))
    for _ in range(ROUNDS):
        made = start(version, *({} for _ in range(10)))
        (n,) = with_workers(2, partial(engine.cancel, Run.objects.filter(pk__in=[run.pk for run in made]), reason="x"))
        states = [state(run) for run in made]
        assert states.count("cancelled") == n
        assert states.count("succeeded") == len(made) - n


def test_of_two_retries_at_once_one_is_made() -> None:
    version = workflow("  - {id: a, action: fail, with: {message: no}}\n")
    for _ in range(ROUNDS):
        run = started(version, {})
        drain()
        results = at_once(*[partial(engine.retry, run.pk)] * 3)
        assert sorted(isinstance(result, engine.NotEnded) for result in results) == [False, True, True]
        drain()
        run.refresh_from_db()
        assert (run.state, run.round, StepRun.objects.filter(run=run).count()) == ("failed", 1, 2)


def test_of_runs_that_follow_each_other_only_the_last_goes_on() -> None:
    version = workflow(
        "  - {id: settle, action: debounce, with: {key: k, quiet: 1m}}\n"
        '  - {id: then, action: record.put, with: {collection: c, key: "${{ run.uid }}", value: 1}}\n'
    )
    for _ in range(ROUNDS):
        made = [start(version, {}, at_once=True)[0] for _ in range(6)]
        move_back(2 * 60)
        # the first ones are in other hands while the last one goes on
        with transaction.atomic():
            list(Run.objects.select_for_update().filter(pk__in=[run.pk for run in made[:3]]))
            at_once(drain)
        drain()
        went_on = [run.pk for run in made if StepRun.objects.filter(run=run, step="then").exists()]
        assert went_on == [made[-1].pk]


def test_runs_that_come_to_a_digest_one_after_the_other_in_a_batch_share_it() -> None:
    """The first one's step is not stored yet when the second comes."""
    version = workflow(
        "  - {id: maybe, for_each: [1, 2], parallel: 1, if: event.slow, action: transform, with: {values: 1}}\n"
        '  - {id: gather, action: digest, with: {key: k, window: 1m, collect: "${{ event.slow }}"}}\n'
    )
    start(version, {"slow": False}, {"slow": True})
    drain()
    move_back(2 * 60)
    drain()
    outputs = [row.output for row in StepRun.objects.filter(step="gather").order_by("run_id")]
    assert outputs[0] == {"count": 2, "items": [False, True]}
    assert set(outputs[1]) == {"merged_into"}
