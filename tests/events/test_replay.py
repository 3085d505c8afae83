"""An event is heard again: by all or by one, once per wish, by the router's own code; and the ledger balances."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.utils import IntegrityError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from events import replay, routing
from events.models import Event, EventType, Replay, Subscription
from notifications.models import Channel, Delivery, Template
from project import metrics
from project.ledger import audit_everything, sums
from project.models import Tally
from tests.events.conftest import Producer
from tests.events.test_ledger import nothing, totals
from workflows import engine
from workflows.models import Record, Run, Workflow
from workflows.publishing import publish

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = """
name: count
steps:
  - {id: keep, action: record.put, with: {collection: seen, key: "${{ event.id }}", value: "${{ event.data }}"}}
"""


@pytest.fixture
def count() -> Workflow:
    EventType.objects.get_or_create(name="note")
    version, _ = publish(COUNT)
    return version.workflow


def subscribe(name: str, to: Workflow, **values: Any) -> Subscription:
    return Subscription.objects.create(name=name, types=["note"], workflow=to, **values)


def happened(n: int = 1, *, routed: bool = True) -> Event:
    now = timezone.now()
    event = Event.objects.create(source="/shop", event_id=f"e-{n}", type="note", time=now, due_at=now, data={"n": n})
    if routed:
        work()
        event.refresh_from_db()
    return event


def work() -> None:
    while routing.route() or replay.replay() or engine.advance():
        pass


def verdicts(told: Any) -> dict[str, str]:
    return {each["name"]: each["verdict"] for each in told}


def test_all_subscriptions_are_asked_again_as_they_are_now(count: Workflow) -> None:
    subscribe("all", count)
    large = subscribe("large", count, filter="event.data.n > 10")
    event = happened(5)
    first = list(event.verdicts)
    large.filter = "event.data.n > 1"
    large.save()
    subscribe("new", count)
    asked, new = replay.ask(event, by="ada")
    assert new
    assert Run.objects.count() == 1, "the workers do it"
    work()
    asked.refresh_from_db()
    event.refresh_from_db()
    assert verdicts(asked.verdicts) == {"all": "matched", "large": "matched", "new": "matched"}
    assert (asked.routed_at is None, asked.due_at, asked.error) == (False, None, "")
    assert event.verdicts == first, "what became of it the first time stays"
    assert sorted(Run.objects.filter(origin=event.pk).values_list("trigger", "replay", "state")) == [
        ("all", 0, "succeeded"),
        ("all", 1, "succeeded"),
        ("large", 1, "succeeded"),
        ("new", 1, "succeeded"),
    ]
    assert Record.objects.get().version == 4, "what is keyed by the event's id is written again, not twice"


def test_one_subscription_is_asked_and_its_filter_decides_like_always(count: Workflow) -> None:
    subscribe("all", count)
    subscribe("large", count, filter="event.data.n > 10")
    event = happened(5)
    for name in ("all", "large"):
        replay.ask(event, by="ada", subscription=name)
    work()
    told = {each.subscription: verdicts(each.verdicts) for each in event.replays.all()}
    assert told == {"all": {"all": "matched"}, "large": {"large": "filtered"}}
    assert list(Run.objects.order_by("replay").values_list("replay", flat=True)) == [0, 1]


def test_it_is_foretold_by_the_code_that_does_it(count: Workflow) -> None:
    subscribe("all", count)
    subscribe("large", count, filter="event.data.n > 10")
    subscribe("off", count, enabled=False)
    event = happened(5)
    foretold = replay.foresee(event)
    assert not event.replays.exists()
    asked, _ = replay.ask(event, by="ada")
    work()
    asked.refresh_from_db()
    assert asked.verdicts == foretold == event.verdicts


def test_an_event_that_waits_to_be_routed_and_an_unknown_subscription_are_refused(count: Workflow) -> None:
    subscribe("all", count)
    event = happened(routed=False)
    with pytest.raises(replay.CannotReplay, match="waits to be routed"):
        replay.ask(event, by="ada")
    work()
    event.refresh_from_db()
    with pytest.raises(replay.UnknownSubscription, match=r'unknown subscription "al", did you mean "all"\?'):
        replay.ask(event, by="ada", subscription="al")
    assert not Replay.objects.exists()


def test_a_subscription_that_is_gone_when_its_turn_comes_is_told(count: Workflow) -> None:
    gone = subscribe("gone", count)
    event = happened()
    asked, _ = replay.ask(event, by="ada", subscription="gone")
    gone.delete()
    work()
    asked.refresh_from_db()
    assert asked.verdicts[0]["verdict"] == "error"
    assert "no such subscription any more" in asked.verdicts[0]["reason"]


def test_the_same_key_is_the_same_replay_also_when_many_ask_at_once(count: Workflow) -> None:
    subscribe("all", count)
    event = happened()
    found: list[tuple[int, bool]] = []

    def ask() -> None:
        asked, new = replay.ask(event, by="ada", key="once")
        found.append((asked.number, new))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(1, False)] * 5 + [(1, True)]
    assert replay.ask(event, by="ada")[0].number == 2
    work()
    assert Run.objects.count() == 3


def test_no_replay_starts_a_run_twice(count: Workflow) -> None:
    subscribe("all", count)
    event = happened()
    asked, _ = replay.ask(event, by="ada")
    work()
    Replay.objects.filter(pk=asked.pk).update(due_at=timezone.now())  # as a restored backup would
    assert replay.replay() == {"postponed": 1}
    asked.refresh_from_db()
    assert "one_run_per_event_subscription_and_replay" in asked.error
    assert Run.objects.count() == 2
    run = Run.objects.get(replay=1)
    with pytest.raises(IntegrityError):
        Run.objects.create(
            workflow=run.workflow, version=run.version, origin=event.pk, trigger="all", replay=1, input={}
        )


def test_one_that_cannot_be_routed_waits_and_the_others_go_on(count: Workflow) -> None:
    subscribe("all", count)
    good, bad = happened(1), happened(2)
    for event in (good, bad):
        replay.ask(event, by="ada")
    run = Run.objects.get(origin=bad.pk)
    Run.objects.create(workflow=run.workflow, version=run.version, origin=bad.pk, trigger="all", replay=1, input={})
    Run.objects.filter(origin=bad.pk, replay=1).update(state="succeeded")
    assert replay.replay() == {"replays": 1, "runs": 1, "postponed": 1}
    assert Replay.objects.get(event=good).routed_at is not None
    waiting = Replay.objects.get(event=bad)
    assert waiting.due_at is not None
    assert waiting.due_at > timezone.now()
    assert (waiting.routed_at, waiting.attempts) == (None, 1)


def test_steps_that_wait_for_an_event_do_not_hear_of_a_replay(count: Workflow) -> None:
    subscribe("all", count)
    event = happened()
    version, _ = publish("name: waits\nsteps:\n  - {id: come, action: event.wait, with: {type: note, timeout: 1h}}\n")
    Subscription.objects.create(name="other", types=["other"], workflow=version.workflow)
    EventType.objects.create(name="other")
    now = timezone.now()
    Event.objects.create(source="/shop", event_id="o", type="other", time=now, due_at=now)
    work()
    replay.ask(event, by="ada")
    work()
    assert Run.objects.get(workflow__name="waits").state == "waiting"


def test_the_ledger_balances_at_every_moment_of_a_replay(count: Workflow) -> None:
    Channel.objects.create(name="c", type="webhook", settings={"url": "http://127.0.0.1:1/"})
    Template.objects.create(name="t", text="x")
    tell, _ = publish("name: tell\nsteps:\n  - {id: tell, action: notify, with: {to: ['channel:c'], template: t}}\n")
    subscribe("all", count)
    subscribe("tell", tell.workflow, filter="event.data.n > 1")
    events = [happened(n) for n in range(3)]
    before = totals()
    assert before == {**nothing(), "accepted": 3, "matched": 4, "runs": 4, "steps": 4, "told": 1, "deliveries": 1}
    for event in events:
        replay.ask(event, by="ada")
    replay.ask(events[2], by="ada", subscription="tell")
    assert totals() == {**before, "replays": 4}
    assert replay.replay() == {"replays": 4, "runs": 5}
    assert totals() == {**before, "replays": 4, "replayed": 5, "runs": 9, "steps": 9, "told": 3, "deliveries": 3}
    Delivery.objects.update(state="cancelled", due_at=None)
    work()
    assert totals()["replayed"] == 5


def test_the_ledger_finds_a_replay_that_was_lost_and_runs_that_do_not_fit(count: Workflow) -> None:
    subscribe("all", count)
    event = happened()
    for _ in range(3):
        replay.ask(event, by="ada")
    work()
    Replay.objects.filter(number=1).update(routed_at=None)
    assert wrong() == {"replays": ["its replay 1 is neither routed nor waiting for it"]}
    Replay.objects.filter(number=1).update(routed_at=timezone.now())
    Run.objects.filter(replay=2).delete()
    Replay.objects.filter(number=3).update(verdicts=[{"name": "all", "verdict": "filtered"}])
    assert wrong() == {
        "replayed": [
            "all matched in replay 2, and there is no run of it",
            "there is a run of all in replay 3, which did not match",
        ]
    }


def wrong() -> dict[str, list[str]]:
    found = {name: audit_everything(each) for name, each in sums().items()}
    return {name: sorted(f.what for f in balance.faults) for name, balance in found.items() if balance.difference}


def test_replays_are_counted(count: Workflow) -> None:
    metrics.flush()
    Tally.objects.all().delete()
    subscribe("all", count)
    event = happened()
    replay.ask(event, by="ada")
    work()
    metrics.flush()
    assert Tally.objects.get(name="carillon_replays_routed_total").value == 1
    assert Tally.objects.get(name="carillon_events_routed_total").value == 1


# --- the API ---------------------------------------------------------------------------------------------------------


def ask_api(shop: Producer, uid: Any, body: Any = None, **headers: str) -> Any:
    return shop.session.post(f"{shop.url}/{uid}/replay", json=body, headers=headers, timeout=30)


def test_a_program_has_an_event_heard_again(shop: Producer, count: Workflow) -> None:
    subscribe("all", count)
    uid = shop.send({"type": "note", "data": {"n": 1}}).json()["uid"]
    assert ask_api(shop, uid).status_code == 409
    work()
    answer = ask_api(shop, uid, {"subscription": "all"}, **{"Idempotency-Key": "k-1"})
    assert answer.status_code == 202
    assert answer.json() | {"made_at": ""} == {
        "number": 1,
        "subscription": "all",
        "by": "the API (/shop)",
        "made_at": "",
        "routed_at": None,
        "error": None,
        "subscriptions": [],
    }
    again = ask_api(shop, uid, {"subscription": "all"}, **{"Idempotency-Key": "k-1"})
    assert (again.status_code, again.json()["number"]) == (200, 1)
    work()
    trace = shop.get(f"/{uid}/trace").json()
    assert [verdicts(each["subscriptions"]) for each in trace["replays"]] == [{"all": "matched"}]
    assert [(run["subscription"], run["replay"]) for run in trace["runs"]] == [("all", 0), ("all", 1)]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"subscription": "nobody"}, 422), ({"subscription": ""}, 422), ({"to": "all"}, 422), ([], 422)],
)
def test_what_means_nothing_is_refused(shop: Producer, count: Workflow, body: Any, status: int) -> None:
    uid = shop.send({"type": "note"}).json()["uid"]
    work()
    assert ask_api(shop, uid, body).status_code == status
    assert not Replay.objects.exists()


def test_a_key_without_the_scope_and_an_unknown_event_are_refused(live_server: Any, shop: Producer) -> None:
    reader = Producer(live_server.url, shop.source, "events:read")  # type: ignore[arg-type]
    uid = shop.send({"type": "note"}).json()["uid"]
    assert ask_api(reader, uid).status_code == 403
    assert ask_api(shop, "01a20e88-40c7-7540-9a3f-575a4072e259").status_code == 404
    reader.session.close()


# --- the admin -------------------------------------------------------------------------------------------------------


def person(*permissions: str) -> Client:
    user = User.objects.create_user("ada", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_a_person_is_told_what_will_happen_then_does_it_once(count: Workflow) -> None:
    subscribe("all", count)
    subscribe("large", count, filter="event.data.n > 10")
    event = happened(5)
    client = person("view_event", "change_event")
    url = reverse("admin:events_event_replay", args=[event.pk])
    page = client.get(url)
    assert "<span>1 run will be started</span>" in page.content.decode()
    assert not Replay.objects.exists()
    given = {"confirmed": "yes", "subscription": "", "key": page.context["key"]}
    for _ in range(2):  # a second click
        assert client.post(url, given).status_code == 302
    asked = Replay.objects.get()
    assert (asked.by, asked.subscription) == ("ada", "")
    narrow = client.get(url, {"subscription": "large"})
    assert 'value="large" checked' in narrow.content.decode()
    assert "no run will be started: event.data.n &gt; 10 is false (event.data.n = 5)" in narrow.content.decode()


@pytest.mark.parametrize("subscription", ["nobody", "x" * 300, "\0"])
def test_a_subscription_that_is_not_there_is_told(count: Workflow, subscription: str) -> None:
    event = happened()
    client = person("view_event", "change_event")
    url = reverse("admin:events_event_replay", args=[event.pk])
    assert client.get(url, {"subscription": subscription}).status_code == 200
    assert client.post(url, {"confirmed": "yes", "subscription": subscription, "key": "k" * 300}).status_code == 200
    assert not Replay.objects.exists()


def test_who_may_only_look_cannot_replay(count: Workflow) -> None:
    subscribe("all", count)
    event = happened()
    client = person("view_event")
    page = client.get(reverse("admin:events_event_change", args=[event.pk])).content.decode()
    url = reverse("admin:events_event_replay", args=[event.pk])
    assert url not in page
    assert client.post(url, {"confirmed": "yes", "subscription": "", "key": "k"}).status_code == 403
    assert not Replay.objects.exists()
