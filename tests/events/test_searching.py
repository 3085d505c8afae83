"""Events, runs and deliveries are found by what people know of them, each by the index that is made for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.db.models import Model, QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.models import Event, EventType, Source
from events.searching import EVENTS
from notifications.models import Channel, Delivery, DeliveryState, Recipient
from notifications.searching import DELIVERIES
from project.identifiers import first_uid_at, made_at
from project.reading import Busy, reading
from project.searching import Search, page
from tests.project.test_admin import list_of
from workflows.models import Run, RunState, StepRun, StepState, Workflow, WorkflowVersion
from workflows.publishing import publish
from workflows.scope import token_of
from workflows.searching import RUNS

pytestmark = pytest.mark.django_db

NOW = timezone.now()
WORKFLOW = "name: {}\nsteps:\n  - {{id: tell, action: fail, with: {{message: no}}}}\n"


NUMBERS = count()


def uid_at(moment: datetime) -> UUID:
    """Of that millisecond, and never the same twice."""
    return UUID(int=first_uid_at(moment).int + next(NUMBERS))


def event(name: str, hours: float = 0, **values: Any) -> Event:
    at = NOW - timedelta(hours=hours)
    return Event(
        **{
            "uid": uid_at(at),
            "source": "/shop",
            "event_id": name,
            "type": "order.paid",
            "time": at,
            "received_at": at,
            "data": {},
            **values,
        }
    )


def version_of(name: str) -> WorkflowVersion:
    return publish(WORKFLOW.format(name))[0]


def run(version: WorkflowVersion, hours: float = 0, **values: Any) -> Run:
    at = NOW - timedelta(hours=hours)
    fields = {"uid": uid_at(at), "state": RunState.SUCCEEDED, "input": {}, "origin": uuid4()}
    return Run(workflow=version.workflow, version=version, started_at=at, **{**fields, **values})


def delivery(channel: Channel, hours: float = 0, **values: Any) -> Delivery:
    at = NOW - timedelta(hours=hours)
    fields = {"uid": uid_at(at), "state": DeliveryState.DELIVERED, "message": {}, "kind": "slack"}
    return Delivery(channel=channel, created_at=at, **{**fields, "origin": uuid4(), **values})


def slack(name: str) -> Channel:
    return Channel.objects.create(name=name, type="slack", settings={"url": "https://example.com/hooks/abcd1234"})


def found(search: Search, text: str, most: int = 50) -> list[Any]:
    rows: QuerySet[Any] = search.model._default_manager.all()
    return list(page(rows, search.read(text), most=most).rows)


class TestEvents:
    @pytest.fixture(autouse=True)
    def events(self) -> dict[str, Event]:
        rows = [
            event("p-1", 1, subject="A-1", data={"who": "Ada 100%", "note": "a refund"}),
            event("p-2", 30, subject="A-2", data={"who": "Grüße_x"}, source="/shop/eu"),
            event("s-1", 50, type="order.shipped", subject="A-1", data={"who": ["Ada", "Bob"]}),
            event("n-1", 80, type="note", source="/shopping", due_at=NOW, data={"when": "12:30", "type": "note"}),
        ]
        Event.objects.bulk_create(rows)
        return {row.event_id: row for row in rows}

    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("", "p-1 p-2 s-1 n-1"),
            ("id:p-2", "p-2"),
            ("p-2", "p-2"),
            ("type:order.paid", "p-1 p-2"),
            ("type:order.*", "p-1 p-2 s-1"),
            ("type:*", "p-1 p-2 s-1 n-1"),
            ("type:nothing.*", ""),
            ("type:order.%", ""),
            ("source:/shop", "p-1 p-2 s-1"),
            ("source:shop/eu", "p-2"),
            ("source:/shoppin", ""),
            ("subject:A-1", "p-1 s-1"),
            ("A-1", "p-1 s-1"),
            ('subject:""', ""),
            ("state:waiting", "n-1"),
            ("state:routed", "p-1 p-2 s-1"),
            ("since:2d", "p-1 p-2"),
            ("since:3d until:1d", "p-2 s-1"),
            ("refund", "p-1"),
            ("ada", "p-1 s-1"),
            ("ada bob", "s-1"),
            ("100%", "p-1"),
            ("grüße_", "p-2"),
            ("12:30", "n-1"),
            ("shipped", "s-1"),
            ("type:order.* subject:A-1 ada since:2d", "p-1"),
            ("type:order.* nobody", ""),
            ('"A-1"', "p-1 s-1"),
        ],
    )
    def test_each_search_finds_what_it_says(self, text: str, ids: str) -> None:
        assert [row.event_id for row in found(EVENTS, text)] == ids.split()

    def test_a_uid_is_looked_up(self, events: dict[str, Event]) -> None:
        row = events["s-1"]
        assert found(EVENTS, f"uid:{row.pk}") == found(EVENTS, str(row.pk).upper()) == [row]
        assert found(EVENTS, str(uuid4())) == []

    def test_a_sole_word_is_what_it_is_and_can_be_looked_for_all_the_same(self) -> None:
        Event.objects.create(source="/b", event_id="x", type="note", time=NOW, data={"about": "p-1"})
        assert EVENTS.read("p-1").read_as == "id:p-1"
        assert [row.event_id for row in found(EVENTS, "p-1")] == ["p-1"]
        assert EVENTS.read('"p-1"').read_as == ""
        assert {row.event_id for row in found(EVENTS, '"p-1"')} == {"x", "p-1"}


class TestRunsAndDeliveries:
    @pytest.fixture(autouse=True)
    def rows(self) -> dict[str, Any]:
        paid, sent = version_of("order-paid"), version_of("order-sent")
        first = run(paid, 1, trigger="paid-orders", input={"id": "A-1"})
        failed = run(sent, 30, trigger="sent-orders", state=RunState.FAILED, error="step tell: no such hook")
        child = run(sent, 50, state=RunState.WAITING, queued=True, parent=first.uid)
        Run.objects.bulk_create([first, failed, child])
        steps = [
            StepRun(run=row, step="tell", position=0, action="notify", state=StepState.SUCCEEDED)
            for row in (first, failed)
        ]
        StepRun.objects.bulk_create(steps)
        chat, mail = slack("chat"), slack("mail")
        ada = Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"})
        by_mail = delivery(
            mail, 1, origin=steps[0].uid, to="ada@example.com", recipient=ada, message={"text": "It is paid"}
        )
        by_chat = delivery(
            chat,
            30,
            origin=steps[1].uid,
            state=DeliveryState.FAILED,
            reason="410 gone",
            template="late",
            dedupe_key="k",
        )
        waits = delivery(chat, 50, to="#ops", state=DeliveryState.PENDING, due_at=NOW)
        Delivery.objects.bulk_create([by_mail, by_chat, waits])
        self.names = {
            first.pk: "first", failed.pk: "failed", child.pk: "child",
            by_mail.pk: "mail", by_chat.pk: "chat", waits.pk: "waits",
        }  # fmt: skip
        return {**{name: pk for pk, name in self.names.items()}, "event": first.origin, "step": steps[1].uid}

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("", "first failed child"),
            ("uid:{failed}", "failed"),
            ("uid:{step}", "failed"),
            ("{step}", "failed"),
            ("event:{event}", "first"),
            ("{event}", "first"),
            ("parent:{first}", "child"),
            ("workflow:order-sent", "failed child"),
            ("order-sent", "failed child"),
            ("subscription:paid-orders", "first"),
            ("paid-orders", "first"),
            ("state:failed", "failed"),
            ("state:succeeded", "first"),
            ("state:waiting", "child"),
            ("state:queued", "child"),
            ("workflow:order-sent state:failed", "failed"),
            ("since:2d", "first failed"),
            ("until:2d", "child"),
            ("hook", "failed"),
            ("a-1", "first"),
        ],
    )
    def test_each_search_of_runs_finds_what_it_says(self, rows: dict[str, Any], text: str, names: str) -> None:
        assert [self.names[row.pk] for row in found(RUNS, text.format(**rows))] == names.split()

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("", "mail chat waits"),
            ("uid:{mail}", "mail"),
            ("{step}", "chat"),
            ("event:{event}", "mail"),
            ("{event}", "mail"),
            ("run:{failed}", "chat"),
            ("{failed}", "chat"),
            ("run:{child}", ""),
            ("workflow:order-paid", "mail"),
            ("subscription:sent-orders", "chat"),
            ("to:ada@example.com", "mail"),
            ("ada@example.com", "mail"),
            ("#ops", "waits"),
            ("recipient:ada", "mail"),
            ("ada", "mail"),
            ("channel:chat", "chat waits"),
            ("channel:chat state:failed", "chat"),
            ("template:late", "chat"),
            ("key:k", "chat"),
            ("state:failed", "chat"),
            ("state:pending", "waits"),
            ("state:delivered", "mail"),
            ("since:2h", "mail"),
            ("gone", "chat"),
            ("PAID", "mail"),
            ("late", "chat"),
        ],
    )
    def test_each_search_of_deliveries_finds_what_it_says(self, rows: dict[str, Any], text: str, names: str) -> None:
        assert [self.names[row.pk] for row in found(DELIVERIES, text.format(**rows))] == names.split()

    @pytest.mark.parametrize(
        ("search", "text", "says"),
        [
            (RUNS, "workflow:order-pid", 'workflow: unknown workflow "order-pid", did you mean "order-paid"?'),
            (RUNS, "state:done", "state: unknown state"),
            (RUNS, "event:x", 'event: "x" is not a uid'),
            (DELIVERIES, "channel:phone", 'channel: unknown channel "phone"; known: chat, mail'),
            (DELIVERIES, "recipient:bob", 'unknown recipient "bob"; known: ada'),
            (DELIVERIES, "adress:x", 'Unknown field "adress"'),
        ],
    )
    def test_a_name_that_nobody_has_is_told_with_the_known_ones(self, search: Search, text: str, says: str) -> None:
        with pytest.raises(ValueError, match=re.escape(says)):
            search.read(text)


def test_a_token_is_not_found_out_letter_by_letter() -> None:
    """A viewer is shown no link that decides; to be told which letters it has would be to be shown it."""
    token = token_of(uuid4(), "decide")
    name, _, signature = token.partition("~")
    text = {"text": f"https://example.com/steps/{token} or <{token}>"}
    Delivery.objects.bulk_create([delivery(slack("chat"), message=text, to=token)])
    Event.objects.bulk_create([event("7", data=text, subject=token, type="x")])
    Run.objects.bulk_create([run(version_of("ask"), input=text, error=token)])
    for search in (DELIVERIES, EVENTS, RUNS):
        assert len(found(search, f'"{name}"')) == len(found(search, '"steps/"')) == 1
        for part in (signature, f"~{signature[:1]}", f"~{signature[:9]}", signature[5:15], signature[-9:], token):
            assert found(search, f'"{part}"') == [], part


# --- the walk ---------------------------------------------------------------------------------------------------------


def fill_events(n: int = 5000) -> None:
    """A row a minute, most of them routed `order.paid` of /shop; some of a type and a source that are silent now."""
    Event.objects.bulk_create(
        event(
            f"p-{i}",
            i / 60,
            uid=uid_at(NOW - timedelta(minutes=i)),
            subject=f"A-{i}",
            type="audit.opened" if i > n - 20 else "order.paid" if i % 3 else "order.sent",
            source="/shop/audit" if i > n - 20 else "/shop",
            due_at=NOW if i < 5 else None,
            data={"number": i, "text": "needle" if i % 1000 == 999 else "hay"},
        )
        for i in range(n)
    )
    analyze(Event)


def analyze(*models: type[Model]) -> None:
    with connection.cursor() as cursor:
        for model in models:
            cursor.execute(f"ANALYZE {model._meta.db_table}")


@pytest.mark.parametrize("text", ["needle", "type:order.* needle", "type:order.paid needle", "type:order.*", ""])
@pytest.mark.parametrize(("first", "patience"), [(7, -1), (7, 10), (1000, 0.2)])
def test_pages_follow_each_other_without_gap_or_overlap(
    monkeypatch: pytest.MonkeyPatch, text: str, first: int, patience: float
) -> None:
    fill_events(600)
    Event.objects.filter(event_id__in=["p-3", "p-99", "p-100", "p-250", "p-577"]).update(data={"text": "needle"})
    monkeypatch.setattr("project.searching.FIRST_STEP", first)
    monkeypatch.setattr("project.searching.PATIENCE", patience)
    asked, rows = EVENTS.read(text), Event.objects.all()
    wanted = list(rows.filter(asked.where).order_by("-pk").values_list("pk", flat=True))
    came: list[UUID] = []
    before, pages, ended = None, 0, 0
    while pages == 0 or before:
        got = page(rows, asked, before=before, most=4 if "needle" in text else 97)
        came += [row.pk for row in got.rows]
        before, pages, ended = got.older, pages + 1, ended + (got.searched_to is not None)
        assert got.searched_to is None or got.searched_to == made_at(got.older or UUID(int=0))
    assert came == wanted
    assert wanted
    assert (ended > 0) == (patience < 0 and "needle" in text)


def test_a_walk_goes_no_further_than_the_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    fill_events(3000)
    monkeypatch.setattr("project.searching.PATIENCE", 0.0)
    asked = EVENTS.read('"nowhere"')
    with CaptureQueriesContext(connection) as queries:
        got = page(Event.objects.all(), asked, most=50)
    assert got.rows == []
    assert got.searched_to == made_at(uid_at(NOW - timedelta(minutes=999)))
    assert len([query for query in queries if 'FROM "events_event"' in query["sql"]]) == 2


def test_a_statement_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, admin_client: Client) -> None:
    Event.objects.bulk_create(event(f"large-{i}", i, data={"text": f"{i} " + "words " * 20_000}) for i in range(100))
    monkeypatch.setattr("project.reading.SLOWEST", 1)
    with pytest.raises(Busy):
        page(Event.objects.all(), EVENTS.read("nowhere"), most=50)
    told = admin_client.get(list_of(Event), {"q": "type:order.paid nowhere"}).content.decode()
    assert "so it was ended" in told
    assert "Nothing was searched" in told


# --- indexes ----------------------------------------------------------------------------------------------------------


def plans(search: Search, text: str) -> list[str]:
    """How PostgreSQL does what the search asks of its table."""
    asked = search.read(text)
    table = search.model._meta.db_table
    with CaptureQueriesContext(connection) as queries:
        page(search.model._default_manager.all(), asked, most=50)
    selects = [
        query["sql"] for query in queries if query["sql"].startswith("SELECT") and f'FROM "{table}"' in query["sql"]
    ]
    told = []
    with reading(), connection.cursor() as cursor:
        for sql in selects:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
            (plan,) = cursor.fetchone() or ("",)
            told.append(json.dumps(plan) if not isinstance(plan, str) else plan)
    return told


def assert_indexes(search: Search, wanted: Iterable[tuple[str, str]]) -> None:
    wrong = []
    whole = re.compile(rf'"Seq Scan"[^{{}}]*"Relation Name": "{search.model._meta.db_table}"')
    for text, index in wanted:
        found = plans(search, text)
        used = set(re.findall(r'"Index Name": "(\w+)"', " ".join(found)))
        if not found or index not in used or any(map(whole.search, found)):
            wrong.append((text, index, used, found))
    assert not wrong, wrong


def test_every_search_of_events_goes_by_the_index_made_for_it() -> None:
    fill_events()
    uid = Event.objects.values_list("pk", flat=True)[100]
    assert_indexes(
        EVENTS,
        [
            ("", "events_event_pkey"),
            (f"uid:{uid}", "events_event_pkey"),
            ("id:p-7", "an_event_counts_once"),
            ("p-7", "an_event_counts_once"),
            ("type:order.paid", "event_by_type"),
            ("type:audit.opened", "event_by_type"),
            ("type:audit.*", "event_by_type"),
            ("source:/shop/audit", "event_by_source"),
            ("subject:A-7", "event_by_subject"),
            ("state:waiting", "event_due"),
            ("since:3d until:2d", "events_event_pkey"),
            ("nowhere", "events_event_pkey"),
            ("type:audit.opened nowhere", "event_by_type"),
            ("source:/shop/audit nowhere", "event_by_source"),
            ("type:order.* nowhere", "events_event_pkey"),
        ],
    )


def test_every_search_of_runs_goes_by_the_index_made_for_it() -> None:
    often, seldom = version_of("often"), version_of("seldom")
    Run.objects.bulk_create(
        run(
            seldom if i > 4980 else often,
            i / 60,
            uid=uid_at(NOW - timedelta(minutes=i)),
            trigger="seldom" if i > 4980 else "often",
            state=RunState.FAILED if i > 4950 else RunState.SUCCEEDED,
            parent=UUID(int=i) if i % 100 == 0 else None,
            input={"number": i},
        )
        for i in range(5000)
    )
    analyze(Run)
    origin = Run.objects.values_list("origin", flat=True)[100]
    assert_indexes(
        RUNS,
        [
            ("", "workflows_run_pkey"),
            (f"uid:{Run.objects.values_list('pk', flat=True)[9]}", "workflows_run_pkey"),
            (f"event:{origin}", "one_run_per_event_subscription_and_replay"),
            (f"parent:{UUID(int=100)}", "run_by_parent"),
            ("workflow:seldom", "run_by_workflow"),
            ("subscription:seldom", "run_by_subscription"),
            ("subscription:often", "run_by_subscription"),
            ("state:failed", "run_by_state"),
            ("state:succeeded", "workflows_run_pkey"),
            ("workflow:often state:failed", "run_by_state"),
            ("workflow:seldom nowhere", "run_by_workflow"),
            ("since:3d until:2d", "workflows_run_pkey"),
        ],
    )


def test_every_search_of_deliveries_goes_by_the_index_made_for_it() -> None:
    often, seldom = slack("often"), slack("seldom")
    ada = Recipient.objects.create(name="ada")
    version = version_of("telling")
    started = run(version, trigger="telling")
    Run.objects.bulk_create([started])
    steps = [
        StepRun(run=started, step=f"s-{i}", position=i, action="notify", state=StepState.SUCCEEDED) for i in range(3)
    ]
    StepRun.objects.bulk_create(steps)
    Delivery.objects.bulk_create(
        delivery(
            seldom if i > 4980 else often,
            i / 60,
            uid=uid_at(NOW - timedelta(minutes=i)),
            to=f"{i}@example.com",
            recipient=ada if i > 4990 else None,
            state=DeliveryState.FAILED if i > 4950 else DeliveryState.PENDING if i < 9 else DeliveryState.DELIVERED,
            due_at=NOW if i < 9 else None,
            dedupe_key=f"key-{i}" if i % 2 else "",
            **({"origin": steps[i - 50].uid} if 50 <= i < 53 else {}),
        )
        for i in range(5000)
    )
    analyze(Delivery, StepRun, Run)
    assert_indexes(
        DELIVERIES,
        [
            ("", "notifications_delivery_pkey"),
            (f"uid:{Delivery.objects.values_list('pk', flat=True)[9]}", "notifications_delivery_pkey"),
            (f"event:{started.origin}", "one_delivery_per_step_channel_and_address"),
            (f"run:{started.pk}", "one_delivery_per_step_channel_and_address"),
            (f"uid:{steps[0].pk}", "one_delivery_per_step_channel_and_address"),
            ("to:7@example.com", "delivery_by_address"),
            ("recipient:ada", "delivery_by_recipient"),
            ("channel:seldom", "delivery_by_channel"),
            ("key:key-7", "delivery_by_dedupe_key"),
            ("state:failed", "delivery_failed"),
            ("state:pending", "delivery_due_by_lane"),
            ("state:delivered", "notifications_delivery_pkey"),
            ("template:x", "notifications_delivery_pkey"),
            ("recipient:ada nowhere", "delivery_by_recipient"),
        ],
    )


# --- the lists of the admin -------------------------------------------------------------------------------------------


class TestLists:
    @pytest.fixture(autouse=True)
    def filled(self) -> None:
        Source.objects.create(name="shop")
        EventType.objects.create(name="order.paid")
        fill_events(130)

    @pytest.fixture
    def ask(self, admin_client: Client) -> Callable[..., Any]:
        def ask(**parameters: str) -> Any:
            return admin_client.get(list_of(Event), parameters)

        return ask

    def test_a_page_leads_to_the_next_by_key_and_back_to_the_first(
        self, ask: Callable[..., Any], admin_client: Client
    ) -> None:
        came, address = [], list_of(Event)
        while address:
            answer = admin_client.get(address)
            shown = answer.context["cl"]
            came += [row.event_id for row in shown.result_list]
            address = list_of(Event) + shown.older if shown.found.older else ""
        assert came == [f"p-{i}" for i in range(130)]
        last = answer.content.decode()
        assert ">Newest</a>" in last
        assert ">Older</a>" not in last
        assert "before=" not in answer.context["cl"].newest

    def test_nothing_is_counted_whole(self, ask: Callable[..., Any]) -> None:
        assert ask().context["cl"].number == "130"
        fill = [event(f"more-{i}", uid=uid_at(NOW)) for i in range(1000)]
        Event.objects.bulk_create(fill)
        assert ask().context["cl"].number == "about 130"  # as autovacuum last knew
        assert ask(q="type:order.paid").context["cl"].number == "more than 1,000"
        assert ask(q="type:order.paid hay").context["cl"].number == ""
        with CaptureQueriesContext(connection) as queries:
            ask(q="type:order.paid")
        for query in queries:
            assert "COUNT(" not in query["sql"] or "LIMIT 1001" in query["sql"], query["sql"]

    def test_an_unknown_field_is_told_and_nothing_is_shown(self, ask: Callable[..., Any]) -> None:
        answer = ask(q="typ:order.paid")
        assert answer.context["cl"].result_list == ()
        told = answer.content.decode()
        assert "did you mean &quot;type&quot;?" in told
        assert "known: uid, id, type, source, subject, state, since, until" in told

    def test_filters_beside_the_list_and_the_box_mean_the_same(self, ask: Callable[..., Any]) -> None:
        def ids(**parameters: str) -> list[str]:
            return [row.event_id for row in ask(**parameters).context["cl"].result_list]

        assert ids(type="order.paid", q="subject:A-7") == ids(q="type:order.paid subject:A-7") == ["p-7"]
        assert ids(state="waiting") == ids(q="state:waiting") == [f"p-{i}" for i in range(5)]
        assert ids(since="1h") == ids(q="since:1h")
        begin, end = (timezone.localtime(NOW - timedelta(minutes=ago)) for ago in (20, 10))
        between = {
            "received_at_from_0": f"{begin:%Y-%m-%d}", "received_at_from_1": f"{begin:%H:%M:%S}",
            "received_at_to_0": f"{end:%Y-%m-%d}", "received_at_to_1": f"{end:%H:%M:%S}",
        }  # fmt: skip
        assert ids(**between) == [f"p-{i}" for i in range(11, 21)]
        assert ids(received_at_to_0=f"{NOW + timedelta(days=1):%Y-%m-%d}")[0] == "p-0"
        told = ask(received_at_from_0="soon").content.decode()
        assert "is not a time: write 2026-11-30" in told

    def test_a_walk_says_how_far_it_came_and_goes_on(
        self, ask: Callable[..., Any], admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Event.objects.filter(event_id="p-120").update(data={"text": "needle"})
        monkeypatch.setattr("project.searching.FIRST_STEP", 100)
        monkeypatch.setattr("project.searching.PATIENCE", -1)
        answer = ask(q="needle")
        told = answer.content.decode()
        assert "Nothing so far" in told
        assert "Go on searching" in told
        assert f"{timezone.localtime(NOW - timedelta(minutes=99)):%Y-%m-%d %H:%M}" in told
        then = admin_client.get(list_of(Event) + answer.context["cl"].older)
        assert [row.event_id for row in then.context["cl"].result_list] == ["p-120"]

    def test_a_parameter_of_no_filter_is_left_out(self, ask: Callable[..., Any]) -> None:
        for given in ({"data__icontains": "x"}, {"dataschema": "x"}):
            assert ask(**given).status_code in (302, 400)

    def test_what_was_read_as_an_id_can_be_looked_for_as_a_word(
        self, ask: Callable[..., Any], admin_client: Client
    ) -> None:
        answer = ask(q="p-7")
        assert "id:p-7" in answer.content.decode()
        words = admin_client.get(list_of(Event) + answer.context["cl"].as_words)
        assert [row.event_id for row in words.context["cl"].result_list] == [
            "p-7", *(f"p-{i}" for i in range(70, 80))
        ]  # fmt: skip


def test_a_workflow_leads_to_its_runs(admin_client: Client) -> None:
    version = version_of("order-paid")
    Run.objects.bulk_create([run(version), run(version_of("other"))])
    told = admin_client.get(list_of(Workflow)).content.decode()
    assert f"{list_of(Run)}?workflow=order-paid" in told
    shown = admin_client.get(f"{list_of(Run)}?workflow=order-paid").context["cl"].result_list
    assert [row.workflow for row in shown] == [version.workflow]


@pytest.mark.parametrize("search", [EVENTS, RUNS, DELIVERIES], ids=["events", "runs", "deliveries"])
def test_the_reference_names_every_field(search: Search) -> None:
    text = Path("docs/reference/admin.md").read_text().partition("## Searching")[2].partition("\n## ")[0]
    (row,) = re.findall(rf"^\| {search.model._meta.verbose_name_plural} \| (.*?) \|", text, re.MULTILINE)
    assert {*re.findall(r"`(\w+)`", row), "since", "until"} == set(search.names)
