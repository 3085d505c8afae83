"""What only one broker does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from kombu import Connection

from events import routing
from events.consuming import State
from events.models import Event, Subscription
from notifications.models import Channel
from notifications.sender import Sender
from tests.brokers.counterparts import USER, Mqtt, Sent, Sqs, counterpart, program, structured
from tests.brokers.running import Running, now
from tests.events.brokers.conftest import Place, note, stored
from tests.live import wait_until
from tests.workflows.runs import drain, workflow
from workflows.models import Run, RunState

CONSUMING, STANDBY = State.CONSUMING, State.STANDBY

pytestmark = pytest.mark.django_db(transaction=True)


def on(adapter: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", [adapter], indirect=True)


@on("sqs")
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "with its envelope"])
def test_what_sns_publishes_to_the_queue(place: Place, raw: bool) -> None:
    broker = place.broker
    assert isinstance(broker, Sqs)
    sns, sqs = broker.client("sns"), broker.client("sqs")
    topic = sns.create_topic(Name=place.name)["TopicArn"]
    queue = sqs.get_queue_attributes(QueueUrl=broker.url_of(place.name), AttributeNames=["QueueArn"])
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=queue["Attributes"]["QueueArn"],
        Attributes={"RawMessageDelivery": str(raw).lower()},
    )
    given = {"specversion": "1.0", "id": "b-1", "source": "/sns", "type": "note"}
    attributes = {f"ce-{name}": {"DataType": "String", "StringValue": value} for name, value in given.items()}
    sns.publish(TopicArn=topic, Message=structured("s-1", "note", {"n": 1}).decode())
    sns.publish(TopicArn=topic, Message='{"n": 2}', MessageAttributes=attributes)
    with Running(place.source()):
        found = {event.event_id: event for event in stored(2)}
    assert (found["s-1"].data, found["b-1"].data) == ({"n": 1}, {"n": 2})
    assert found["b-1"].source == f"/{place.name}/sns"


@on("redis")
def test_a_workflow_that_hears_what_it_publishes_ends_at_a_depth_of_twenty(place: Place) -> None:
    settings = place.broker.settings(place.name)
    Channel.objects.create(name="bus", type="redis", settings={"url": settings["url"], "stream": place.name})
    version = workflow("  - {id: again, action: publish, with: {channel: bus, subject: again}}", "echo")
    Subscription.objects.create(name="echo", types=["note"], workflow=version.workflow)
    place.publish(note("1"))
    sender = Sender()

    def ended() -> Run | None:
        while routing.route():
            pass
        drain()
        sender.drain()
        return Run.objects.filter(state=RunState.FAILED).first()

    try:
        with Running(place.source()):
            last = wait_until(ended, seconds=30, what="the loop guard")
    finally:
        sender.stop()
    assert last is not None
    assert last.error.startswith("again: the loop guard: ")
    assert sorted(Event.objects.values_list("depth", flat=True)) == list(range(21))


@on("sqs")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"queue": "http://127.0.0.1:1/123456789012/nobodys"},
            "GetQueueAttributes was refused: QueueDoesNotExist: The",
        ),
        ({"endpoint": "http://127.0.0.1:1"}, "Cannot connect to host 127.0.0.1:1"),
        ({"region": ""}, "You must specify a region."),
        ({"access_key": "", "secret_key": None}, "Unable to locate credentials"),
    ],
    ids=["no queue", "nobody there", "no region", "nobody"],
)
def test_why_sqs_cannot_be_used_is_told(
    place: Place, settings: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with Running(place.source(**settings)) as consumer:
        wait_until(lambda: consumer.status.state is State.AWAY, seconds=15)
    assert said in consumer.status.error


@on("sqs")
def test_calls_of_sqs_are_signed(place: Place) -> None:
    """Moto looks at signatures when it is told to."""
    broker = place.broker
    assert isinstance(broker, Sqs)
    iam = broker.client("iam")
    iam.create_user(UserName=place.name)
    rights = {"Statement": [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}], "Version": "2012-10-17"}
    iam.put_user_policy(UserName=place.name, PolicyName="sqs", PolicyDocument=json.dumps(rights))
    key = iam.create_access_key(UserName=place.name)["AccessKey"]
    ours = {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}
    place.publish(note("1"))
    strict = f"http://127.0.0.1:{broker.proxy.target}/moto-api/reset-auth"
    requests.post(strict, data=b"0", timeout=5)
    try:
        with Running(place.source(**{**ours, "secret_key": "not " + key["SecretAccessKey"]})) as consumer:
            wait_until(lambda: consumer.status.state is State.AWAY, seconds=15)
        assert "SignatureDoesNotMatch" in consumer.status.error
        with Running(place.source(**ours)):
            stored(1)
    finally:
        requests.post(strict, data=b"inf", timeout=5)


@on("rabbitmq")
def test_a_queue_that_is_not_there_is_made_and_bound(place: Place) -> None:
    place.broker.remove(place.name)
    source = place.source(
        exchange="amq.topic", routing_keys=[f"{place.name}.*"], type="note", subject="${{ message.routing_key }}"
    )
    with Running(source) as consumer:
        wait_until(lambda: consumer.status.state == "consuming", seconds=15)
        now(publish(f"{place.name}.paid", b'{"n": 1}', message_id="m-1"))
        now(publish(f"{place.name}.paid", b'{"n": 1}', message_id="m-2"))
        now(publish("elsewhere", b'{"n": 2}', message_id="m-3"))
        events = stored(2)
    assert {event.event_id for event in events} == {"m-1", "m-2"}
    assert {event.subject for event in events} == {f"{place.name}.paid"}


async def publish(key: str, body: bytes, **properties: str) -> None:
    import aio_pika

    async with await aio_pika.connect("amqp://guest:guest@127.0.0.1:5672/") as connection:
        exchange = await (await connection.channel()).get_exchange("amq.topic")
        await exchange.publish(aio_pika.Message(body, **properties), key, mandatory=False)  # type: ignore[arg-type]


@on("rabbitmq")
def test_equal_messages_without_an_id_are_one_event_unless_told_otherwise(place: Place) -> None:
    without_an_id(place, '{"n": 1}', '{"n": 1}', '{"n": 2}')
    with Running(place.source(type="note")):
        stored(2)  # the last of them is there, so none waits any more
    without_an_id(place, '{"n": 1}', '{"n": 1}')
    with Running(place.source(type="note", id="${{ message.delivery }}")):
        stored(4)


def without_an_id(place: Place, *bodies: str) -> None:
    """aio-pika would give each a message_id."""
    confirmed = {"confirm_publish": True}  # else nobody promises that they are there
    with Connection("amqp://guest:guest@127.0.0.1:5672/", transport_options=confirmed) as connection:
        producer = connection.Producer()
        for body in bodies:
            producer.publish(body, routing_key=place.name, content_type="application/json", content_encoding="utf-8")


@on("redis")
def test_an_entry_without_the_content_field_is_an_object_of_its_fields(place: Place) -> None:
    import redis

    with redis.Redis.from_url(place.broker.settings(place.name)["url"]) as client:
        client.xadd(place.name, {"order": "A-1", "amount": "5"})
        client.xadd(place.name, {"payload": '{"order": "A-2"}', "x-shop": "eu"})
    first = place.source(type="note", subject="${{ body.order }}")
    with Running(first):
        wait_until(lambda: Event.objects.exists())
    event = Event.objects.get()
    assert (event.subject, event.data) == ("A-1", {"order": "A-1", "amount": "5"})
    other = place.source(
        type="note", subject="${{ body.order }} ${{ headers['x-shop'] }}", content="payload", group="other"
    )
    with Running(other):
        wait_until(lambda: Event.objects.filter(subject="A-2 eu").exists())


@on("redis")
def test_what_a_dead_consumer_had_in_hand_is_claimed(place: Place) -> None:
    place.publish(*(note(str(n)) for n in range(5)))

    async def take_and_die() -> int:
        reader = await place.adapter().connect("carillon-somebody-else-7")
        taken = await reader.receive(5, 2.0)
        await reader.close()
        return len(taken)

    assert now(take_and_die()) == 5
    began = time.monotonic()
    with Running(place.source()):
        stored(5)
    assert time.monotonic() - began > 0.5  # not before it is thought dead


@on("kafka")
def test_a_message_tells_its_topic_and_key(place: Place) -> None:
    place.publish(Sent(b'{"n": 1}', key="k-1"))
    with Running(place.source(type="note", subject="${{ message.topic }} ${{ message.key }}")):
        (event,) = stored(1)
    assert event.subject == f"{place.name} k-1"
    assert event.event_id.startswith(f"{place.name}/")
    assert "@" in event.event_id  # a topic that is made anew counts from 0 again


@on("kafka")
def test_a_cluster_that_refuses_the_user_is_told(place: Place, brokers: Path) -> None:
    """Its client would say only that it cannot connect, and log the rest."""
    port = counterpart("kafka", brokers, locked=True).proxy.port
    who = {"mechanism": "SCRAM-SHA-256", "username": USER, "password": "wr0ng-secret"}
    with Running(place.source(servers=f"127.0.0.1:{port}", **who)) as consumer:
        wait_until(lambda: consumer.status.state is State.AWAY)
    assert consumer.status.error == "the cluster refuses the user"


@on("mqtt")
def test_the_topic_can_be_the_subject(place: Place) -> None:
    place.publish(Sent(b'{"n": 1}', key="kitchen"), Sent(b'{"n": 1}', key="hall"))
    with Running(place.source(type="note", subject="${{ message.topic }}")):
        assert {event.subject for event in stored(2)} == {f"{place.name}/kitchen", f"{place.name}/hall"}


@on("mqtt")
def test_what_came_while_nobody_was_there_is_not_lost(place: Place) -> None:
    source = place.source()
    with Running(source) as consumer:
        wait_until(lambda: consumer.status.state == "consuming")
    place.publish(*(note(str(n)) for n in range(30)))
    with Running(source):
        stored(30)


@on("mqtt")
def test_a_plain_subscription_outlives_a_restart_of_the_broker(place: Place) -> None:
    assert stored_across_a_restart(place, group="") == 20


@on("mqtt")
def test_without_a_group_one_consumes_and_another_stands_by(place: Place) -> None:
    source = place.source(group="")
    first, second = Running(source), Running(source)
    with second:
        with first:
            wait_until(lambda: {first.consumer.status.state, second.consumer.status.state} == {CONSUMING, STANDBY})
            place.publish(note("1"))
            stored(1)
        wait_until(lambda: second.consumer.status.state == CONSUMING, what="whoever stood by")
        place.publish(note("2"))
        stored(2)


@on("mqtt")
def test_mosquitto_forgets_a_shared_subscription_when_it_restarts(place: Place) -> None:
    """When this fails, it is mended, and the docs can be shorter."""
    if "2.0.11" not in subprocess.run([program("mosquitto"), "-h"], capture_output=True, text=True).stdout:
        pytest.skip("it is told of Mosquitto 2.0.11")
    assert stored_across_a_restart(place, group=place.name) == 10


def stored_across_a_restart(place: Place, group: str) -> int:
    """How many of 20 messages became events: half came before the broker's restart, half between it and ours."""
    source, broker = place.source(group=group), place.broker
    assert isinstance(broker, Mqtt)
    with Running(source) as consumer:
        wait_until(lambda: consumer.status.state == "consuming")
    place.publish(*(note(str(n)) for n in range(10)))
    broker.restart()
    place.publish(*(note(str(n)) for n in range(10, 20)))
    with Running(source) as consumer:
        wait_until(lambda: consumer.status.state == "consuming")
        wait_until(lambda: Event.objects.count() >= 10)
        place.publish(note("last"))
        wait_until(lambda: Event.objects.filter(event_id="last").exists())
    return Event.objects.count() - 1


@on("nats")
def test_only_the_subjects_that_the_filter_names(place: Place) -> None:
    place.publish(note("a"), note("b"), note("c"))
    with Running(place.source(filter=f"{place.name}.b")):
        (event,) = stored(1)
    assert event.event_id == "b"


@on("nats")
def test_a_stream_that_is_not_there_is_told_and_waited_for(place: Place) -> None:
    source = place.source(stream=f"{place.name}-later")
    with Running(source) as consumer:
        wait_until(lambda: consumer.status.state == "broker away", seconds=15)
        assert "stream not found" in consumer.status.error
        asyncio.run(make_stream(place))
        wait_until(lambda: consumer.status.state == "consuming", seconds=15)


async def make_stream(place: Place) -> None:
    import nats

    client = await nats.connect(place.broker.settings(place.name)["url"])
    await client.jetstream().add_stream(name=f"{place.name}-later", subjects=[f"{place.name}-later.>"])
    await client.close()
