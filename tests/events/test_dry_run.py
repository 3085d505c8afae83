"""A dry run says what the router says, tells what a change makes different, and changes nothing itself."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from events import dry_run, ingest, routing, stored
from events.cloudevents import Incoming
from events.dry_run import DEAF, NEWLY, NO_LONGER, Draft, DryRun
from events.models import Event, EventType, Source, Subscription
from events.review import Review, survey
from events.verdicts import Judge
from project.identifiers import first_uid_at, new_uid
from project.reading import reading
from workflows.models import Run, Workflow
from workflows.publishing import publish

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = "steps: [{id: keep, action: record.put, with: {collection: kept, key: '${{ event.id }}', value: 1}}]"


def workflow(name: str = "keep") -> Workflow:
    version, _ = publish(f"name: {name}\n{STEPS}\n")
    return version.workflow


def subscribe(name: str, *types: str, to: Workflow, **values: Any) -> Subscription:
    return Subscription.objects.create(name=name, types=[*types], workflow=to, **values)


def store(number: int, *, type_: str = "note", ago: timedelta = timedelta(minutes=1), **values: Any) -> None:
    """So many events, a millisecond apart, as if they had come that long ago; `data` may depend on the number."""
    EventType.objects.get_or_create(name=type_)
    begin = timezone.now() - ago
    data = values.pop("data", lambda n: {"n": n})
    rows = [
        Event(
            uid=UUID(int=first_uid_at(begin + timedelta(milliseconds=n)).int | new_uid().int & (1 << 60) - 1),
            source=values.get("source", "/shop"),
            event_id=str(new_uid()),
            type=type_,
            time=begin,
            data=data(n),
        )
        for n in range(number)
    ]
    Event.objects.bulk_create(rows)


def whole(run: DryRun, days: int = 1) -> Review:
    review = Review.of_days(days)
    while not review.over:
        review.step(run.types, run.labels)
    return review


def draft_of(subscription: Subscription, **changes: Any) -> Draft:
    return Draft.from_json({**Draft.stored(subscription).to_json(), **changes})


# --- the same as the router -------------------------------------------------------------------------------------------

SOURCES = ("a", "b", "c-d")
TYPES = ("note", "order.paid", "order.paid.late", "orders", "x")
PATTERNS = (*TYPES, "*", "order.*", "order*", "no*")
FILTERS = (
    "",
    "event.data.n > 5",
    "event.data.n > 5 && event.data.kind == 'x'",
    "event.data.gone.deep",
    "has(event.data.gone) || event.data.n % 2 == 0",
    "event.data.n / (event.data.n % 3) > 1",
    "event.data.list.exists(x, x > 2)",
    "event.data.n",
    "event.data.kind < 3",
    "event.source.startsWith('/a') && event.subject == 's'",
    "event.data. >",
    "event.time > '2020-01-01'",
)

json = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats(-10, 10) | st.sampled_from(["x", "y", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n", "kind", "gone"]), inner),
    max_leaves=6,
)
data = json | st.fixed_dictionaries(
    {"n": st.integers(-10, 10), "kind": st.sampled_from("xy"), "list": st.lists(st.integers(0, 4), max_size=3)}
)
events = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(TYPES),
            "source": st.sampled_from(["/a", "/a/eu", "/ab", "/b", "/c-d"]),
            "subject": st.sampled_from(["", "s"]),
            "data": data,
        }
    ),
    min_size=1,
    max_size=12,
)
subscriptions = st.lists(
    st.fixed_dictionaries(
        {
            "types": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True),
            "sources": st.lists(st.sampled_from(SOURCES), max_size=2, unique=True),
            "filter": st.sampled_from(FILTERS),
            "workflow": st.sampled_from(["keep", "off", "unpublished"]),
            "enabled": st.sampled_from([True, True, True, False]),
        }
    ),
    min_size=2,
    max_size=8,
)


@settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would take minutes, and the values are small
    suppress_health_check=list(HealthCheck),
)
@given(sent=events, configured=subscriptions)
def test_a_dry_run_says_of_any_event_what_the_router_said(
    sent: list[dict[str, Any]], configured: list[dict[str, Any]]
) -> None:
    for model in (Run, Event, Subscription, Workflow, Source, EventType):
        model._default_manager.all().delete()
    workflows = {"keep": workflow(), "off": workflow("off"), "unpublished": Workflow.objects.create(name="unpublished")}
    Workflow.objects.filter(name="off").update(enabled=False)
    for name in SOURCES:
        Source.objects.create(name=name)
    for name in TYPES:
        EventType.objects.create(name=name)
    rows = []
    for number, values in enumerate(configured):
        row = subscribe(
            f"s-{number}",
            *values["types"],
            to=workflows[values["workflow"]],
            filter=values["filter"],
            enabled=values["enabled"],
        )
        row.sources.set(Source.objects.filter(name__in=values["sources"]))
        rows.append(row)
    for values in sent:
        ingest.accept([Incoming(**values)], source=values["source"])
    while routing.route():
        pass

    said: dict[str, dict[UUID, tuple[str, str]]] = {row.name: {} for row in rows}
    for event in Event.objects.all():
        for verdict in event.verdicts:
            said[verdict["name"]][event.uid] = (verdict["verdict"], verdict.get("reason", ""))
    for row in rows:
        rule = Draft.stored(Subscription.objects.get(pk=row.pk)).rule()
        answers = {it.uid: Judge(it).ask(rule) for it in Event.objects.all() if rule.hears_type(it.type)}
        assert answers == said[row.name]
    _the_same_in_numbers(rows, said)


def _the_same_in_numbers(rows: list[Subscription], said: dict[str, dict[UUID, tuple[str, str]]]) -> None:
    """Each subscription as the draft of the one before it: the counts, and who would match newly or no longer."""
    matched = {name: {uid for uid, (verdict, _) in told.items() if verdict == "matched"} for name, told in said.items()}
    for saved, draft in zip(rows, rows[1:] + rows[:1], strict=True):
        run = DryRun.of(Draft.stored(draft), Draft.stored(saved))
        counts = whole(run).counts
        for verdict in ("matched", "filtered", "error", "disabled"):
            assert counts[verdict] == sum(told == verdict for told, _ in said[draft.name].values()), verdict
        if run.saved is None:  # the two say the same
            continue
        assert counts[DEAF] == len(said[saved.name].keys() - said[draft.name].keys())
        assert counts[NEWLY] == len(matched[draft.name] - matched[saved.name])
        assert counts[NO_LONGER] == len(matched[saved.name] - matched[draft.name])


# --- steps ------------------------------------------------------------------------------------------------------------


def test_steps_however_short_come_to_the_same_as_one() -> None:
    store(350)
    saved = subscribe("s", "note", to=workflow(), filter="event.data.n < 100")
    run = DryRun.of(draft_of(saved, filter="event.data.n >= 50"), Draft.stored(saved))
    review, steps = Review.of_days(1), 0
    while not review.over:
        before = review.seen
        review.step(run.types, run.labels, seconds=0)
        assert review.seen <= before + 1
        review = Review.from_json(review.to_json())  # as it travels between two requests
        steps += 1
    assert steps > 350
    at_once = whole(run)
    assert (review.seen, review.counts, review.shown) == (at_once.seen, at_once.counts, at_once.shown)
    assert review.counts == {"matched": 300, "filtered": 50, "matched before": 100, NEWLY: 250, NO_LONGER: 50}
    assert [each["event"].data["n"] for each in run.tell_all(review.shown[NO_LONGER])] == [49, 48, 47, 46, 45]


def test_a_period_ends_where_it_should() -> None:
    store(3, ago=timedelta(hours=23))
    store(5, ago=timedelta(hours=25))
    run = DryRun.of(draft_of(subscribe("s", "*", to=workflow())), None)
    assert whole(run, 1).counts == {"matched": 3}
    assert whole(run, 7).counts == {"matched": 8}


def test_what_comes_meanwhile_is_not_counted() -> None:
    store(3)
    run = DryRun.of(draft_of(subscribe("s", "note", to=workflow())), None)
    review = Review.of_days(1)
    store(2, ago=timedelta(seconds=-1))
    review.step(run.types, run.labels)
    assert (review.over, review.seen) == (True, 3)


def test_a_disabled_draft_is_tried_as_if_it_were_enabled() -> None:
    store(4)
    saved = subscribe("s", "note", to=workflow(), filter="event.data.n < 2")
    draft = draft_of(saved, enabled=False, filter="event.data.n < 3")
    assert whole(DryRun.as_if_enabled(draft, Draft.stored(saved))).counts[NEWLY] == 1
    assert whole(DryRun.of(draft, Draft.stored(saved))).counts == {"disabled": 4, "matched before": 2, NO_LONGER: 2}


def test_a_draft_without_a_workflow_can_be_tried_and_one_without_a_version_says_so() -> None:
    store(1)
    empty = Workflow.objects.create(name="empty")
    saved = subscribe("s", "note", to=empty)
    assert whole(DryRun.of(draft_of(saved, workflow=None), None)).counts == {"matched": 1}
    run = DryRun.of(draft_of(saved), None)
    [told] = run.tell_all(whole(run).shown["error"])
    assert told["reason"] == "its workflow empty has no published version"


def test_a_dry_run_cannot_write_and_leaves_the_transaction_around_it_alone() -> None:
    store(2)
    subscription = subscribe("s", "note", to=workflow())
    run = DryRun.of(draft_of(subscription), None)
    with transaction.atomic():
        review = Review.of_days(1)
        review.step(run.types, run.labels)
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("30s",)
        Subscription.objects.update(description="written")
    subscription.refresh_from_db()
    assert (review.seen, subscription.description) == (2, "written")
    assert not Run.objects.exists()
    assert set(Event.objects.values_list("routed_at", flat=True)) == {None}


def test_a_type_that_fell_silent_is_found_by_its_index() -> None:
    """PostgreSQL would rather walk over everything newer, expecting to meet it soon."""
    store(3000, type_="old", ago=timedelta(days=2))
    store(3000, type_="new")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE events_event")
        with reading():
            limits: dict[str, Any] = {
                "types": ["old", "none"],
                "since": stored.NOTHING,
                "before": stored.EVERYTHING,
                "most": 100,
            }
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {stored._PAGE}", limits)
            plan = str(cursor.fetchone())
    assert "event_by_type" in plan
    assert "Rows Removed by Filter" not in plan
    assert "events_event_pkey" not in plan


# --- impact -----------------------------------------------------------------------------------------------------------


def test_the_impact_says_how_many_runs_there_would_have_been() -> None:
    store(30)
    saved = subscribe("s", "note", to=workflow(), filter="event.data.n < 12")
    every = dry_run.impact(draft_of(saved, filter=""), Draft.stored(saved))
    assert str(every) == "It would have started 30 runs in the last 7 days instead of 12."
    assert every.differing == 18
    others = dry_run.impact(draft_of(saved, filter="event.data.n >= 18"), Draft.stored(saved))
    assert str(others) == "It would have started 12 runs in the last 7 days, as before, but partly for other events."
    assert others.differing == 24
    new = dry_run.impact(draft_of(saved, filter="event.data.n == 1"), None)
    assert (str(new), new.differing) == ("It would have started 1 run in the last 7 days.", 1)
    off = dry_run.impact(draft_of(saved, enabled=False), Draft.stored(saved))
    assert (off.runs, off.before, off.differing) == (0, 12, 12)


@pytest.mark.parametrize("hours", [1, 3], ids=["evenly", "in bursts"])
def test_an_impact_that_cannot_be_counted_in_time_is_estimated_and_says_so(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ago in range(0, 168, hours):
        store(30 * hours, ago=timedelta(hours=ago, minutes=1))
    saved = subscribe("s", "note", to=workflow(), filter="event.data.n % 10 == 0")
    run = DryRun.of(Draft.stored(saved), None)
    # A clock that knows events instead of seconds, so that it does not matter what else this machine does.
    monkeypatch.setattr("events.review.monotonic", itertools.count(step=0.001).__next__)
    found = [survey(["note"], run.labels, days=7, seconds=1.5) for _ in range(10)]
    assert not any(it.complete for it in found)
    assert max(it.seen for it in found) < 2000
    estimates = [it.counts["matched"] for it in found]
    assert 504 * 0.65 < sum(estimates) / len(estimates) < 504 * 1.35, estimates
    told = str(dry_run.Impact(7, 1264, 0, 1264, found[0].seen, complete=False, new=True))
    assert told.startswith("It would have started about 1,300 runs in the last 7 days. This is an estimate from a ")
