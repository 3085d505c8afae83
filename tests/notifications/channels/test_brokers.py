"""What every channel type on a broker must do, held against the broker itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from notifications.channels import channel_types
from notifications.channels.base import Outgoing, Receipt, SendError
from notifications.channels.broker import Broker
from notifications.models import Attempt, Channel, Delivery, DeliveryState
from project.identifiers import new_uid
from project.transport import Transport
from tests.live import wait_until
from tests.notifications.channels.far_sides import SIDES, FarSide
from tests.notifications.conftest import MakeSender

EVENT = {
    "specversion": "1.0",
    "id": "A-1/paid",
    "source": "/shop/eu",
    "type": "order.paid",
    "subject": "order A-1",
    "time": "2026-01-31T12:00:00.5Z",
    "dataschema": "https://example.com/schemas/order/3",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
DATA = {"order_id": "A-1", "amount": 120.5, "customer": "Grüße <&>", "lines": [1, None, True]}

_numbers = itertools.count(1)


def test_every_type_that_takes_events_is_held_to_these_duties() -> None:
    assert sorted(SIDES) == [name for name, kind in channel_types.items() if "event" in kind.parts]


@pytest.fixture(params=sorted(SIDES))
def broker(request: pytest.FixtureRequest, brokers: Path) -> Iterator[FarSide]:
    side = SIDES[request.param](brokers)
    yield side
    side.close()


@pytest.fixture
def place(broker: FarSide) -> str:
    name = f"place-{next(_numbers)}-{new_uid().hex[-8:]}"
    broker.prepare(name)
    return name


def channel(broker: FarSide, settings: dict[str, Any], **more: Any) -> Broker:
    made = channel_types[broker.kind].from_settings({**settings, **more})
    assert isinstance(made, Broker)
    assert list(made.check()) == []
    return made


def outgoing(data: Any = DATA, timeout: float = 5, **event: Any) -> Outgoing:
    return Outgoing(
        uid=new_uid(),
        channel="tried",
        to="",
        type="order.paid",
        created_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        attempt=1,
        timeout=timeout,
        data=data,
        event={**EVENT, **event},
    )


def with_transport(work: Callable[[Transport], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        transport = Transport()
        try:
            return await work(transport)
        finally:
            await transport.close()

    return asyncio.run(run())


def sent(type_: Broker, *messages: Outgoing) -> list[Receipt]:
    async def send(transport: Transport) -> list[Receipt]:
        return [await type_.send(message, transport) for message in messages]

    receipts: list[Receipt] = with_transport(send)
    return receipts


def refusal(type_: Broker, message: Outgoing) -> SendError:
    with pytest.raises(SendError) as error:
        sent(type_, message)
    return error.value


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_an_event_arrives_with_all_that_it_is(broker: FarSide, place: str, mode: str) -> None:
    (receipt,) = sent(channel(broker, broker.settings(place), mode=mode), outgoing())
    assert receipt.response
    (got,) = broker.read(place, 1)
    assert got.data == DATA
    time = got.attributes.pop("time")
    assert datetime.fromisoformat(time) == datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)
    found = {name: value for name, value in got.attributes.items() if name != "datacontenttype"}
    assert found == {name: value for name, value in EVENT.items() if name != "time"}
    assert got.structured == (mode == "structured")


def test_the_data_may_go_alone(broker: FarSide, place: str) -> None:
    sent(channel(broker, broker.settings(place), mode="data"), outgoing())
    (got,) = broker.read(place, 1)
    assert (got.data, got.attributes) == (DATA, {})


def test_a_notification_is_an_event_too(broker: FarSide, place: str) -> None:
    message = outgoing()
    told = Outgoing(message.uid, "tried", "", "order.paid", message.created_at, 1, 5, data=DATA, event={"subject": "A"})
    sent(channel(broker, broker.settings(place)), told)
    (got,) = broker.read(place, 1)
    assert got.data == DATA
    assert got.attributes["id"] == str(message.uid)
    assert (got.attributes["source"], got.attributes["type"]) == ("/carillon", "order.paid")
    assert got.attributes["subject"] == "A"


def test_a_repetition_is_known_by_its_id_and_dropped_where_the_broker_can(broker: FarSide, place: str) -> None:
    type_ = channel(broker, broker.settings(place))
    again, other = outgoing(), outgoing(id="A-2")
    sent(type_, again, again, other)
    got = broker.read(place, 2 if broker.drops else 3)
    assert [each.attributes["id"] for each in got] == [*["A-1/paid"] * (1 if broker.drops else 2), "A-2"]
    assert {each.uid for each in got} <= {str(again.uid), str(other.uid), ""}


def test_two_events_with_one_id_are_not_a_repetition(broker: FarSide, place: str) -> None:
    sent(channel(broker, broker.settings(place)), outgoing(source="/shop/eu"), outgoing(source="/shop/us"))
    assert {got.attributes["source"] for got in broker.read(place, 2)} == {"/shop/eu", "/shop/us"}


def test_what_has_one_subject_stays_in_order_and_shares_a_connection(broker: FarSide, place: str) -> None:
    messages = [outgoing({"n": n}, id=str(n), subject=f"order-{n % 2}") for n in range(40)]
    type_ = channel(broker, broker.settings(place))
    before = broker.proxy.accepted

    async def all_at_once(transport: Transport) -> None:
        await asyncio.gather(*(type_.send(message, transport) for message in messages))

    with_transport(all_at_once)
    assert broker.proxy.accepted - before <= broker.connections
    got = broker.read(place, 40)
    for subject in ("order-0", "order-1"):
        mine = [each.data["n"] for each in got if each.attributes["subject"] == subject]
        assert mine == [n for n in range(40) if f"order-{n % 2}" == subject]
    assert {each.key for each in got} <= {"", "order-0", "order-1"}


@pytest.mark.parametrize("how", ["refused", "dropped"])
def test_a_lost_connection_is_made_anew(broker: FarSide, place: str, how: str) -> None:
    type_, proxy = channel(broker, broker.settings(place)), broker.proxy
    lose, mend = (proxy.stop, proxy.start) if how == "refused" else (proxy.refuse, partial(proxy.refuse, False))

    async def lose_it(transport: Transport) -> SendError:
        await type_.send(outgoing(id="before"), transport)
        await asyncio.to_thread(lose)
        try:
            with pytest.raises(SendError) as error:
                await type_.send(outgoing(id="lost", timeout=2), transport)
        finally:
            await asyncio.to_thread(mend)
        await type_.send(outgoing(id="after"), transport)
        return error.value

    error = with_transport(lose_it)
    assert (error.permanent, error.hold) == (False, True)
    assert str(error)
    ids = [got.attributes["id"] for got in broker.read(place, 2)]
    assert [name for name in ids if name != "lost"] == ["before", "after"]


def test_who_gives_up_waiting_disturbs_nobody(broker: FarSide, place: str) -> None:
    type_ = channel(broker, broker.settings(place))

    async def give_up(transport: Transport) -> None:
        impatient = [asyncio.ensure_future(type_.send(outgoing(id=f"cut-{n}"), transport)) for n in range(5)]
        patient = [asyncio.ensure_future(type_.send(outgoing(id=f"kept-{n}"), transport)) for n in range(5)]
        await asyncio.sleep(0)
        for each in impatient:
            each.cancel()
        await asyncio.gather(*patient)
        await type_.send(outgoing(id="last"), transport)

    with_transport(give_up)
    wanted = {"last", *(f"kept-{n}" for n in range(5))}

    def there() -> bool:
        seen.update(got.attributes["id"] for got in broker.read(place, len(wanted)))
        return wanted <= seen

    seen: set[str] = set()
    assert there() or there()


def test_a_place_that_is_not_there_is_told_and_tried_again(broker: FarSide, place: str) -> None:
    settings, told = broker.nowhere(place)
    error = refusal(channel(broker, settings), outgoing(timeout=2))
    assert told in str(error)
    assert (error.permanent, error.hold) == (False, True)


def test_a_wrong_password_is_told_and_not_shown(broker: FarSide, place: str) -> None:
    with broker.refusing(place) as settings:
        error = refusal(channel(broker, settings), outgoing())
    assert (error.permanent, error.hold) == (False, True)
    assert "wr0ng" not in str(error)
    assert any(word in str(error).lower() for word in ("refuse", "auth", "password", "signature", "token", "denied"))


@pytest.mark.parametrize("broker", [kind for kind, side in SIDES.items() if side.limited], indirect=True)
def test_what_is_too_large_is_refused_for_good(broker: FarSide, place: str) -> None:
    error = refusal(channel(broker, broker.settings(place), mode="structured"), outgoing("x" * 2_000_000))
    assert (error.permanent, error.hold) == (True, False)
    assert str(error)


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_away_gets_it_when_it_is_back(
    broker: FarSide, place: str, start_sender: MakeSender, redis_url: str
) -> None:
    row = Channel(name="bus", type=broker.kind, settings=broker.settings(place), timeout=2)
    row.retry_schedule = ["0s", *["1s"] * 9]
    row.full_clean()
    row.save()
    message = {"type": "order.paid", "data": DATA, "event": EVENT}
    uid = new_uid()
    made = Delivery(uid=uid, channel=row, kind=row.type, message=message)
    Delivery.objects.add([made])
    broker.proxy.stop()
    sender = start_sender()
    try:
        sender.drain()
        wait_until(lambda: Attempt.objects.filter(outcome="retry").exists(), what="an attempt that failed")
    finally:
        broker.proxy.start()
    wait_until(lambda: _again(sender, uid) == DeliveryState.DELIVERED, what="the delivery", seconds=20)
    last = Attempt.objects.order_by("number").last()
    assert last is not None
    assert (last.outcome, last.status) == ("delivered", None)
    assert last.response
    assert broker.read(place, 1)[0].attributes["id"] == "A-1/paid"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_a_test_of_the_channel_arrives(
    broker: FarSide, place: str, start_sender: MakeSender, redis_url: str, admin_client: Any
) -> None:
    row = Channel.objects.create(name="bus", type=broker.kind, settings=broker.settings(place))
    assert admin_client.post(reverse("admin:notifications_channel_test", args=[row.pk])).status_code == 302
    start_sender().drain()
    (got,) = broker.read(place, 1)
    assert (got.attributes["type"], got.attributes["source"]) == ("carillon.test", "/carillon")
    assert got.data == {"channel": "bus", "by": "admin"}
    assert got.attributes["id"] == str(Delivery.objects.get().pk)


def _again(sender: Any, uid: Any) -> str:
    sender.drain()
    return Delivery.objects.get(pk=uid).state


@pytest.fixture
def quick(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.mark.django_db
@pytest.mark.usefixtures("quick")
def test_its_form_shows_every_setting_and_no_secret(broker: FarSide, place: str, admin_client: Any) -> None:
    settings = broker.settings(place)
    row = Channel.objects.create(name="bus", type=broker.kind, settings=settings)
    page = admin_client.get(reverse("admin:notifications_channel_change", args=[row.pk])).content.decode()
    fields = channel_types[broker.kind].model_fields
    assert all(f'name="settings__{name}"' in page for name in fields)
    assert all(info.description.split(":")[0].split("<")[0] in page for info in fields.values() if info.description)
    secrets = [str(settings[name]) for name in ("password", "secret_key", "url") if name in settings]
    assert not any(secret in page for secret in secrets if "s3cret" in secret or "guest" in secret)
