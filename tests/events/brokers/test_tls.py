"""Brokers by TLS, with an authority that only the source knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import trustme

from events.consuming import State
from tests.brokers.counterparts import Certificate, Encrypting, Kafka, Mqtt, Nats, RabbitNode, RedisStreams, Sqs
from tests.brokers.running import Running
from tests.events.brokers.conftest import Place, note, stored
from tests.live import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # Paho leaves a socket whose handshake failed to the collection of garbage.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]

BY_TLS: Final[dict[str, type[Encrypting]]] = {
    each.adapter: each for each in (Kafka, Mqtt, Nats, RabbitNode, RedisStreams, Sqs)
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(
    request: pytest.FixtureRequest, authority: trustme.CA, tmp_path: Path, transactional_db: None
) -> Iterator[Place]:
    issued = authority.issue_cert("127.0.0.1")
    certificate = Certificate(tmp_path / "authority.pem", tmp_path / "chain.pem", tmp_path / "key.pem")
    authority.cert_pem.write_to_path(certificate.authority)
    issued.cert_chain_pems[0].write_to_path(certificate.chain)
    issued.private_key_pem.write_to_path(certificate.key)
    broker = BY_TLS[request.param](certificate=certificate)
    broker.start(tmp_path)
    yield Place(broker, f"t{uuid4().hex[:12]}")
    broker.stop()


@pytest.mark.parametrize(
    "secure",
    [
        pytest.param(name, marks=pytest.mark.thorough if name == "rabbitmq" else [])  # it takes seconds to start
        for name in sorted(BY_TLS.keys() - {"sqs"})
    ],
    indirect=True,
)
def test_only_who_is_signed_by_the_authority_is_trusted(secure: Place, authority: trustme.CA) -> None:
    assert isinstance(secure.broker, Encrypting)
    by_tls = secure.broker.by_tls()
    secure.publish(note("1"))
    for stranger in ("", pem(trustme.CA())):
        with Running(secure.source(**by_tls, authority=stranger)) as consumer:
            wait_until(lambda: consumer.status.state is State.AWAY, seconds=15)
        assert "certificate verify failed" in consumer.status.error
    with Running(secure.source(**by_tls, authority=pem(authority))):
        assert stored(1)[0].event_id == "1"


@pytest.mark.parametrize("secure", ["sqs"], indirect=True)
def test_sqs_is_trusted_by_the_authorities_of_the_environment(
    secure: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(secure.broker, Encrypting)
    secure.publish(note("1"))
    with Running(secure.source(**secure.broker.by_tls())) as consumer:
        wait_until(lambda: consumer.status.state is State.AWAY, seconds=15)
    assert "certificate verify failed" in consumer.status.error
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    with Running(secure.source(**secure.broker.by_tls())):
        assert stored(1)[0].event_id == "1"


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


@pytest.mark.parametrize("place", ["nats"], indirect=True)
@pytest.mark.parametrize("asked", [{"tls": True}, {"url": "tls://127.0.0.1:{port}"}], ids=["by tls", "by the URL"])
def test_nats_without_tls_is_refused_where_tls_is_asked_for(place: Place, asked: dict[str, Any]) -> None:
    """Its server says in plain text whether there is any, and so could anybody on the way."""
    wishes = {
        name: value.format(port=place.broker.proxy.port) if name == "url" else value for name, value in asked.items()
    }
    with Running(place.source(**wishes)) as consumer:
        wait_until(lambda: consumer.status.state is State.AWAY, seconds=15)
    assert consumer.status.error == "the server does not ask for TLS"
