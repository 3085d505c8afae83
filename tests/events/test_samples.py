"""The events that are offered for trying something out: what the workflow hears first, and only what one may see."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from events.models import Event, EventType, Source, Subscription
from notifications.models import Channel, Template
from project import samples
from tests.workflows.runs import workflow

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> User:
    user = User.objects.create_user("ada", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_event", "view_eventtype"]))
    return user


@pytest.fixture(autouse=True)
def _events() -> None:
    Source.objects.create(name="shop")
    for name in ("account.opened", "order.paid"):
        EventType.objects.create(name=name, example={"of": name})
    EventType.objects.create(name="old", retired=True)
    version = workflow("  - {id: a, action: transform, with: {values: 1}}", "order-paid")
    Subscription.objects.create(name="paid", types=["order.*"], workflow=version.workflow)


def store(type_: str, id_: str) -> Event:
    return Event.objects.create(source="/shop", event_id=id_, type=type_, subject="A-7", time=timezone.now())


def test_what_the_workflow_hears_is_offered_first(person: User) -> None:
    paid, opened = store("order.paid", "1"), store("account.opened", "2")
    offered = samples.offered(person, workflow="order-paid")
    assert [one.key for one in offered] == ["type:order.paid", "type:account.opened", str(paid.pk), str(opened.pk)]
    assert offered[2].label.startswith("order.paid A-7 · ")
    assert samples.offered(person)[0].key == "type:account.opened"


def test_a_rare_event_that_the_workflow_hears_is_offered_all_the_same(person: User) -> None:
    paid = store("order.paid", "1")
    Subscription.objects.update(types=["order.paid"])
    for number in range(250):
        store("account.opened", f"a{number}")
    offered = [one.key for one in samples.offered(person, workflow="order-paid")]
    assert offered[2] == str(paid.pk)
    assert len(offered) == 22


def test_for_a_template_those_come_first_that_lead_to_it(person: User) -> None:
    Channel.objects.create(name="mail", type="email", default=True)
    Template.objects.create(name="opened", text="x")
    version = workflow("  - {id: a, action: notify, with: {to: [ada@example.com], template: opened}}", "welcome")
    Subscription.objects.create(name="opened", types=["account.opened"], workflow=version.workflow)
    assert samples.offered(person, template="opened")[0].key == "type:account.opened"
    EventType.objects.create(name="a.first", example={})
    assert samples.offered(person, template="opened")[0].key == "type:account.opened"
    assert samples.offered(person, template="other")[0].key == "type:a.first"


def test_an_example_is_an_event_with_the_types_example_data(person: User) -> None:
    event = samples.event(person, "type:order.paid")
    assert event is not None
    assert (event["type"], event["source"], event["data"]) == ("order.paid", "/shop", {"of": "order.paid"})
    assert samples.event(person, "type:nothing") is None


def test_a_stored_event_is_found_by_its_uid(person: User) -> None:
    stored = store("order.paid", "1")
    assert samples.event(person, f" {stored.pk} ") == stored.envelope()
    assert samples.event(person, "no uid") is None
    assert samples.event(person, "01990000-0000-7000-8000-000000000000") is None


def test_whoever_may_not_see_events_is_offered_none() -> None:
    stored = store("order.paid", "1")
    stranger = User.objects.create_user("bob", is_staff=True)
    assert samples.offered(stranger) == []
    assert samples.event(stranger, str(stored.pk)) is None
    assert samples.event(stranger, "type:order.paid") is None


def test_an_example_is_from_who_may_send_its_type(person: User) -> None:
    Source.objects.create(name="alerts", adapter="alertmanager", secret="s")
    Source.objects.create(name="forge", adapter="github", secret="s")
    EventType.objects.create(name="github.push", example={})
    said = {name: samples.event(person, f"type:{name}") for name in ("github.push", "order.paid")}
    assert {name: event and event["source"] for name, event in said.items()} == {
        "github.push": "/forge",
        "order.paid": "/shop",
    }
