"""docs/states.md draws what the code does: each arrow is seen, and no change is seen that has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from notifications import delivery
from notifications.channels.base import Receipt, SendError
from notifications.models import Channel, Delivery, Template
from tests.workflows.outside import due_step
from tests.workflows.runs import drain, start, time_passes, workflow
from workflows import engine, performing, waits
from workflows.actions import Action, Call, StepError, Wait, action
from workflows.models import Lane, Run, StepRun
from workflows.performing import Job, claim, failed, record, returned
from workflows.waits import Answer

pytestmark = pytest.mark.django_db(transaction=True)

DOCS = Path(__file__).parents[1] / "docs" / "states.md"
TABLES = {"Run": "workflows_run", "Step": "workflows_steprun", "Delivery": "notifications_delivery"}
BEGIN, END = "[*]", "[*]"

Arrow = tuple[str, str]


def drawn(heading: str) -> set[Arrow]:
    section = DOCS.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    arrows = re.findall(r"^ +(\S+) --> (\S+)", section, re.MULTILINE)
    return {(a, b) for a, b in arrows if b != END}


@pytest.fixture
def seen() -> Iterator[dict[str, set[Arrow]]]:
    """The changes of state that PostgreSQL sees, by what changes."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE TABLE seen (what text, before text, after text);
            CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO seen VALUES
                    (TG_TABLE_NAME, CASE TG_OP WHEN 'INSERT' THEN '[*]' ELSE OLD.state END, NEW.state);
                RETURN NULL;
            END $$;
            """
        )
        for table in TABLES.values():
            cursor.execute(
                f"CREATE TRIGGER see AFTER INSERT OR UPDATE OF state ON {table} FOR EACH ROW EXECUTE FUNCTION see()"
            )
    found: dict[str, set[Arrow]] = {}
    yield found
    with connection.cursor() as cursor:
        for table in TABLES.values():
            cursor.execute(f"DROP TRIGGER see ON {table}")
        cursor.execute("DROP FUNCTION see; DROP TABLE seen")


def look(found: dict[str, set[Arrow]]) -> None:
    with connection.cursor() as cursor:
        for what, table in TABLES.items():
            cursor.execute("SELECT DISTINCT before, after FROM seen WHERE what = %s AND before <> after", [table])
            found[what] = set(cursor.fetchall())


@action("test.turn")
class Turn(Action):
    """Fails, or waits, as the event says."""

    turn: Any

    def run(self, call: Call) -> Any:
        match self.turn:
            case "fail":
                raise StepError("no", permanent=True)
            case "fail once" if call.attempt == 1:
                raise StepError("not yet")
            case "fail twice" if call.attempt <= 2:
                raise StepError("not yet", permanent=call.attempt == 2)
            case "wait":
                return Wait()
        return None


TURN = """
  - id: it
    if: event.turn != "skip"
    action: test.turn
    with: {turn: "${{ event.turn }}"}
    retry: {attempts: 3, delay: 1m}
"""
DELAYED = "  - {id: nap, action: delay, with: {for: 1m}}\n" + TURN


def steps_inside() -> None:
    w = workflow(TURN)
    runs = start(
        w, *({"turn": turn} for turn in ("go", "skip", "fail", "fail once", "fail twice", "wait", "wait", "wait"))
    )
    drain()
    time_passes(70)
    time_passes(130)
    answered, refused, cancelled = (StepRun.objects.get(run=run) for run in runs[-3:])
    waits.complete({answered.pk: Answer("yes"), refused.pk: Answer(error="no")})
    engine.cancel(Run.objects.filter(pk=cancelled.run_id), reason="enough")
    drain()
    engine.retry(runs[2].pk)  # fails again
    engine.retry(cancelled.run_id)
    drain()
    for turn in ("go", "fail", "fail once"):
        start(workflow(DELAYED, name="later"), {"turn": turn})
    drain()
    time_passes(70)
    (running,) = start(w, {"turn": "fail once"})
    drain()
    engine.cancel(Run.objects.filter(pk=running.pk), reason="enough")


def one() -> Job:
    (job,) = claim(Lane.CODE, 1).jobs
    return job


def steps_outside() -> None:
    work = {"file": "/dev/null"}
    due_step("test.work", work)
    record([failed(one(), StepError("not now"))])
    record([returned(one(), None)])
    due_step("test.work", work)
    record([failed(one(), StepError("no", permanent=True))])
    due_step("test.work", work)
    record([returned(one(), Wait())])
    cancelled = due_step("test.work", work)
    job = one()
    engine.cancel(Run.objects.filter(pk=cancelled.run_id), reason="enough")
    assert performing.record([returned(job, None)]) is None
    drain()


TELL = "  - {id: tell, action: notify, with: {to: ['channel:c'], template: t, dedupe_key: '${{ event.key }}'}}\n"


def deliveries() -> None:
    Channel.objects.create(name="c", type="slack", settings={"url": "https://example.com"}, max_in_flight=10)
    Template.objects.create(name="t", text="hello")
    start(workflow(TELL, name="teller"), *({"key": key} for key in "abcdd"))
    drain()
    sent = {str(job.leased.uid): job for job in delivery.claim(3, lambda channel: 10).jobs}
    well, refused, _ = sent.values()
    delivery.record(
        [
            delivery.Done(well, Receipt(200, "ok"), None, started=0.0),
            delivery.Done(refused, None, SendError("no", permanent=True, hold=False), started=0.0),
        ]
    )
    assert delivery.cancel(Delivery.objects.exclude(pk__in=sent)) == 1
    assert delivery.retry(Delivery.objects.all()) == 2


def test_the_drawings_say_what_happens(seen: dict[str, set[Arrow]]) -> None:
    steps_inside()
    steps_outside()
    deliveries()
    look(seen)
    for what in TABLES:
        arrows, expected = seen[what], drawn(what)
        if what == "Run":  # one that is done at once is stored once, at its end: it was running on the way
            arrows, expected = ({(a, b) for a, b in each if a != BEGIN} for each in (arrows, expected))
        assert arrows - expected == set(), f"{what}: seen, and not drawn"
        assert expected - arrows == set(), f"{what}: drawn, and not seen"
