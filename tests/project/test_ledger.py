"""Each sum is broken on purpose, and seen; pages, the sweep and the clock keep them cheap and complete."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from events.models import Event
from notifications.models import Attempt, Channel, Delivery
from project import ledger
from project.clock import Clock
from project.doctor import examine
from project.identifiers import first_uid_at, new_uid
from project.ledger import Balance, balances
from project.models import LedgerPage, LedgerSum
from tests.live import wait_until
from workflows.models import Run, StepRun, Workflow, WorkflowVersion

pytestmark = pytest.mark.django_db(transaction=True)

SETTLED_AGO = timedelta(minutes=5)


class Story:
    """An event whose subscription matched, its run, the step that told somebody, and the delivery that arrived.

    All of it was made some time ago, and all is well.
    """

    def __init__(self, ago: timedelta = SETTLED_AGO) -> None:
        at = timezone.now() - ago
        times = {"started_at": at, "finished_at": at}
        workflow, _ = Workflow.objects.get_or_create(name="w")
        version, _ = WorkflowVersion.objects.get_or_create(workflow=workflow, number=1, defaults={"definition": {}})
        channel, _ = Channel.objects.get_or_create(name="c", type="webhook")
        self.event = Event.objects.create(
            uid=uid_at(ago), source="/shop", event_id=str(uuid4()), type="note", time=at, routed_at=at
        )
        self.event.verdicts = [{"name": "s", "verdict": "matched"}, {"name": "t", "verdict": "filtered", "reason": "x"}]
        self.event.save()
        self.run = Run.objects.create(
            uid=uid_at(ago),
            workflow=workflow,
            version=version,
            origin=self.event.uid,
            trigger="s",
            state="succeeded",
            input={},
            **times,
        )
        self.delivery = Delivery(
            uid=uid_at(ago), channel=channel, kind="webhook", message={}, state="delivered", attempts=1
        )
        self.step = StepRun.objects.create(
            uid=uid_at(ago),
            run=self.run,
            step="tell",
            position=0,
            action="notify",
            state="succeeded",
            output={"deliveries": [str(self.delivery.uid)], "skipped": 0},
            **times,
        )
        self.delivery.origin = self.step.uid
        self.delivery.save()
        self.attempt = Attempt.objects.create(delivery=self.delivery, number=1, at=at, outcome="delivered", ms=3)


def uid_at(ago: timedelta) -> UUID:
    """A new uid as it would have been made then."""
    first = first_uid_at(timezone.now() - ago)
    return UUID(int=first.int >> 80 << 80 | new_uid().int & (1 << 80) - 1)


def change(row: Any, **values: Any) -> int:
    changed: int = type(row).objects.filter(pk=row.pk).update(**values)
    return changed


def audited() -> dict[str, Balance]:
    ledger.keep()
    return {balance.sum.name: balance for balance in balances()}


def wrong() -> dict[str, Balance]:
    return {name: balance for name, balance in audited().items() if balance.difference}


def sleeping(seconds: int) -> ledger.Sum:
    """A sum that takes this long, and balances."""
    statement = """
        SELECT NULL::uuid AS uid, 1 AS left_side, 1 AS right_side, NULLIF(pg_sleep(%(seconds)s)::text, '') AS fault
        WHERE %(after)s < %(upto)s
    """
    return ledger.Sum("sleepy", "x = y", Event, statement, {"seconds": seconds})


BREAKAGES: dict[str, tuple[Callable[[Story], Any], str, str]] = {
    "an event that is neither routed nor waiting": (
        lambda story: change(story.event, routed_at=None),
        "accepted",
        "neither routed nor waiting for it",
    ),
    "a run that was lost": (
        lambda story: change(story.run, origin=None),
        "matched",
        "s matched, and there is no run of it",
    ),
    "a verdict that was lost": (
        lambda story: change(story.event, verdicts=[]),
        "matched",
        "there is a run of s, which did not match",
    ),
    "a run that nobody will wake": (
        lambda story: change(story.run, state="waiting"),
        "runs",
        "waiting, and nobody will wake it",
    ),
    "a queued run whose slot is free": (
        lambda story: change(story.run, state="running", queued=True, slot="shop"),
        "runs",
        "running, and nobody will wake it",
    ),
    "a run that is over and still due": (
        lambda story: change(story.run, due_at=timezone.now()),
        "runs",
        "at its end (succeeded), and still due",
    ),
    "a run in a state that is none": (
        lambda story: change(story.run, state="lost"),
        "runs",
        'in the unknown state "lost"',
    ),
    "a step outside that no performer will take up": (
        lambda story: (change(story.run, state="running"), change(story.step, state="running", lane="code")),
        "steps",
        "its step tell is running, and no performer will take it up",
    ),
    "a timer that the run does not know of": (
        lambda story: (
            change(story.run, state="waiting"),
            change(story.step, state="waiting", due_at=timezone.now() + timedelta(hours=1)),
        ),
        "steps",
        "its step tell is waiting, and the run is not due",
    ),
    "a step that goes on after its run": (
        lambda story: change(story.step, state="running", lane="code", due_at=timezone.now()),
        "steps",
        "its step tell is running, and the run is at its end",
    ),
    "a step in a state that is none": (
        lambda story: change(story.step, state="lost"),
        "steps",
        'its step tell is in the unknown state "lost"',
    ),
    "a delivery that was lost": (
        lambda story: story.delivery.delete(),
        "told",
        "which is not there",
    ),
    "a delivery that its step does not name": (
        lambda story: change(story.step, output={"deliveries": [], "skipped": 0}),
        "told",
        "which its step does not name",
    ),
    "a delivery of a step that failed": (
        lambda story: change(story.step, state="failed", output=None, error="x"),
        "told",
        "which its step does not name",
    ),
    "a pending delivery that nobody will send": (
        lambda story: (change(story.delivery, state="pending", attempts=2), change(story.attempt, outcome="retry")),
        "deliveries",
        "pending, and nobody will send it",
    ),
    "a failed delivery that would be sent again": (
        lambda story: (
            change(story.delivery, state="failed", due_at=timezone.now()),
            change(story.attempt, outcome="failed"),
        ),
        "deliveries",
        "failed, and would be sent again",
    ),
    "a delivery skipped without a reason": (
        lambda story: (change(story.delivery, state="skipped"), story.attempt.delete()),
        "deliveries",
        "skipped without a reason",
    ),
    "a delivery in a state that is none": (
        lambda story: (change(story.delivery, state="lost"), story.attempt.delete()),
        "deliveries",
        'in the unknown state "lost"',
    ),
    "a delivery that nobody sent": (
        lambda story: story.attempt.delete(),
        "delivered",
        "delivered, and no attempt arrived",
    ),
    "a delivery that arrived and counts as failed": (
        lambda story: change(story.delivery, state="failed"),
        "delivered",
        "attempt 1 arrived, and the delivery is failed",
    ),
}


@pytest.mark.parametrize(("spoil", "name", "told"), BREAKAGES.values(), ids=BREAKAGES)
def test_it_finds(spoil: Callable[[Story], Any], name: str, told: str) -> None:
    Story()
    spoiled = Story()
    spoil(spoiled)
    found = wrong()
    assert set(found) == {name}, found
    (fault,) = found[name].faults
    assert found[name].difference == 1
    assert found[name].left != found[name].right
    assert told in fault.what
    uids = {spoiled.event.uid, spoiled.run.uid, spoiled.delivery.uid}
    assert fault.uid in uids
    assert found[name].sum.opened._base_manager.filter(pk=fault.uid).exists()


IN_ORDER: dict[str, Callable[[Story], Any]] = {
    "everything arrived": lambda story: None,
    "the event waits": lambda story: (
        change(story.event, routed_at=None, verdicts=[], due_at=timezone.now()),
        change(story.run, origin=None),
    ),
    "the run waits for its time": lambda story: (
        change(story.run, state="waiting", due_at=timezone.now()),
        change(story.step, state="waiting", due_at=timezone.now(), action="delay", output=None),
        change(story.delivery, origin=None),
    ),
    "the run waits for a person": lambda story: (
        change(story.run, state="waiting"),
        change(story.step, state="waiting", action="approval", output=None),
        change(story.delivery, origin=None),
    ),
    "the run waits for a performer": lambda story: (
        change(story.run, state="waiting"),
        change(story.step, state="running", lane="code", due_at=timezone.now(), action="task.call", output=None),
        change(story.delivery, origin=None),
    ),
    "the run waits for its slot": lambda story: (
        change(story.run, state="running", queued=True, slot="shop"),
        change(Story().run, state="running", due_at=timezone.now(), slot="shop"),
    ),
    "the run was started by hand": lambda story: (
        change(story.run, origin=uuid4(), trigger="by hand"),
        change(story.event, verdicts=[]),
    ),
    "the delivery waits": lambda story: (
        change(story.delivery, state="pending", due_at=timezone.now()),
        change(story.attempt, outcome="retry"),
    ),
    "the delivery was skipped": lambda story: (
        change(story.delivery, state="skipped", reason="a preference"),
        story.attempt.delete(),
    ),
    "it arrived after it was cancelled": lambda story: change(story.delivery, state="cancelled"),
    "it arrived after it was cancelled, and is sent again": lambda story: change(
        story.delivery, state="pending", due_at=timezone.now(), forgiven=1
    ),
    "it arrived after its lease ran out, and the next attempt failed": lambda story: change(
        story.delivery, state="failed", attempts=2
    ),
    "another delivery stands in": lambda story: Delivery.objects.create(
        uid=uid_at(SETTLED_AGO),
        origin=story.step.uid,
        channel=Channel.objects.create(name="other", type="webhook"),
        kind="webhook",
        message={},
        due_at=timezone.now(),
        instead_of=story.delivery.uid,
    ),
}


@pytest.mark.parametrize("happen", IN_ORDER.values(), ids=IN_ORDER)
def test_it_balances_when(happen: Callable[[Story], Any]) -> None:
    happen(Story())
    found = audited()
    assert not {name: balance for name, balance in found.items() if balance.difference}
    assert all(balance.left == balance.right for balance in found.values()), found
    assert found["accepted"].left > 0


def test_what_is_seconds_old_is_left_alone() -> None:
    story = Story(ago=timedelta(seconds=30))
    change(story.event, routed_at=None)
    assert wrong() == {}
    assert audited()["accepted"].left == 0


def test_a_difference_is_told_until_it_is_mended() -> None:
    story = Story()
    change(story.event, routed_at=None)
    assert set(wrong()) == {"accepted"}
    assert set(wrong()) == {"accepted"}
    change(story.event, routed_at=timezone.now())
    assert wrong() == {}


def test_every_row_is_in_one_page_and_a_page_is_never_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PAGE", 3)
    stories = [Story() for _ in range(8)]
    for story in stories:
        change(story.event, routed_at=None)
    for _ in range(2):
        found = audited()["accepted"]
        assert (found.left, found.right, found.difference) == (8, 0, 8)
        assert {fault.uid for fault in found.faults} == {story.event.uid for story in stories}
    assert max(LedgerPage.objects.filter(sum="accepted").values_list("left", flat=True)) == 3


def test_what_went_wrong_later_is_found_by_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PAGE", 2)
    stories = [Story(ago=timedelta(days=days)) for days in range(9, 0, -1)]
    assert wrong() == {}
    change(stories[6].run, state="running")
    for _ in range(4):
        found = wrong()
    (fault,) = found["runs"].faults
    assert fault.uid == stories[6].run.uid
    for _ in range(8):  # around the end and over it again: it is not counted twice
        assert audited()["runs"].difference == 1
    change(stories[6].run, state="succeeded")
    assert wrong() == {}
    change(stories[1].run, state="running")
    for _ in range(12):
        if found := wrong():
            break
    assert found["runs"].faults[0].uid == stories[1].run.uid


def test_pages_that_balance_are_forgotten_after_an_hour() -> None:
    Story()
    audited()
    ago = timedelta(hours=2)
    for page in LedgerPage.objects.all():
        change(page, after=uid_at(ago), upto=uid_at(ago))
    audited()
    assert not LedgerPage.objects.exists()


def test_a_sum_that_cannot_be_audited_is_told_and_the_others_are_kept() -> None:
    story = Story()
    change(story.event, routed_at=None)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE notifications_attempt RENAME TO gone")
    try:
        found = audited()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO notifications_attempt")
    assert "notifications_attempt" in found["delivered"].error
    assert found["delivered"].as_of is None
    assert found["accepted"].difference == 1
    assert audited()["delivered"].error == ""


def test_a_slow_audit_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "SLOWEST", 300)
    monkeypatch.setitem(ledger._sums, "sleepy", sleeping(20))
    started = time.monotonic()
    assert "statement timeout" in audited()["sleepy"].error
    assert time.monotonic() - started < 5


def test_two_that_keep_it_at_once_do_not_count_twice() -> None:
    stories = [Story() for _ in range(5)]
    change(stories[0].event, routed_at=None)

    def work() -> None:
        for _ in range(5):
            ledger.keep()
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = audited()["accepted"]
    assert (found.left, found.right, found.difference, len(found.faults)) == (5, 4, 1, 1)


def test_one_statement_sees_one_moment_so_that_load_raises_no_alarm() -> None:
    """Events and their runs come and go in transactions while the ledger is audited over all of them, unsettled."""
    stop = threading.Event()

    def work(story: Story) -> None:
        while not stop.is_set():
            with transaction.atomic():
                change(story.event, verdicts=[])
                change(story.run, origin=None)
            with transaction.atomic():
                change(story.run, origin=story.event.uid)
                change(story.event, verdicts=[{"name": "s", "verdict": "matched"}])
        connection.close()

    threads = [threading.Thread(target=work, args=[Story()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        seen = [ledger.audit_everything(ledger.sums()["matched"]) for _ in range(200)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {balance.difference for balance in seen} == {0}
    assert {balance.left for balance in seen} > {0}, "it never saw a change"


def test_metrics_tell_the_difference_the_age_and_what_is_overdue(client: Client) -> None:
    story = Story()
    change(story.event, routed_at=None)
    change(Story().event, routed_at=None, due_at=timezone.now() - timedelta(seconds=90))
    change(Story().event, routed_at=None, due_at=timezone.now() - timedelta(seconds=30))
    ledger.keep()
    text = client.get("/metrics").content.decode()
    assert 'carillon_ledger_difference{sum="accepted"} 1.0' in text
    assert 'carillon_ledger_difference{sum="runs"} 0.0' in text
    assert 'carillon_overdue_rows{stage="events.route"} 1.0' in text
    assert 'carillon_overdue_rows{stage="workflows.advance"} 0.0' in text
    (age,) = [line for line in text.splitlines() if line.startswith('carillon_ledger_age_seconds{sum="accepted"}')]
    assert float(age.split()[-1]) < 10


def test_a_lane_that_is_held_back_is_not_overdue() -> None:
    story = Story()
    change(story.delivery, state="pending", due_at=timezone.now() - timedelta(minutes=5))
    assert Delivery.objects.overdue() == 1
    change(story.delivery.channel, hold_until=timezone.now() + timedelta(minutes=1))
    assert Delivery.objects.overdue() == 0
    change(story.delivery.channel, hold_until=timezone.now() - timedelta(minutes=1))
    assert Delivery.objects.overdue() == 1


def test_the_doctor_tells_what_does_not_balance_and_when_nobody_keeps_it() -> None:
    def told() -> dict[str, str]:
        return {finding.name: finding.wrong for finding in examine() if finding.name.startswith("ledger")}

    assert set(told().values()) == {""}
    story = Story()
    change(story.event, routed_at=None)
    ledger.keep()
    assert f"{story.event.uid}: neither routed nor waiting" in told()["ledger: accepted"]
    assert told()["ledger: runs"] == ""
    change(story.event, routed_at=timezone.now())
    ledger.keep()
    assert set(told().values()) == {""}
    LedgerSum.objects.update(as_of=timezone.now() - timedelta(minutes=11))
    assert "not audited for 66" in told()["ledger: runs"]


def test_the_command_tells_what_was_audited_or_audits_everything(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story(ago=timedelta(0))
    call_command("ledger")
    assert "ok     accepted    not audited yet" in capsys.readouterr().out
    call_command("ledger", "--all")
    assert "ok     accepted    1 = 1\n" in capsys.readouterr().out
    change(story.event, routed_at=None)
    ledger.keep()
    call_command("ledger")  # what was made just now is not audited yet
    with pytest.raises(CommandError, match="1 of 9 sums are wrong"):
        call_command("ledger", "--all")
    told = capsys.readouterr().out
    assert "WRONG  accepted    1 ≠ 0\n" in told
    assert f"event {story.event.uid}: neither routed nor waiting for it" in told
    LedgerSum.objects.update(as_of=timezone.now() - timedelta(hours=1), error="canceled")
    with pytest.raises(CommandError, match="9 of 9"):
        call_command("ledger")
    assert "not audited for 3600 s: canceled" in capsys.readouterr().out


def test_the_clock_keeps_it_and_an_audit_delays_no_bell(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    ticks: list[float] = []

    class Watched(Clock):
        def tick(self) -> None:
            super().tick()
            ticks.append(time.monotonic())

    monkeypatch.setitem(ledger._sums, "sleepy", sleeping(4))
    clock = Watched()

    def run() -> None:
        clock.run()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: LedgerSum.objects.filter(name="sleepy", seconds__gt=3).exists(), what="an audit")
    finally:
        clock.stop.set()
        thread.join()
    assert len(ticks) >= 4
    assert max(later - earlier for earlier, later in itertools.pairwise(ticks)) < 2
