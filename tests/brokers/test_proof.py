"""A short form of `python -m tests.brokers`, which tells of 20,000 messages and of every broker."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.brokers.counterparts import killable
from tests.brokers.proof import prove
from tests.live import Live


@pytest.mark.chaos
@pytest.mark.parametrize("adapter", ["redis", pytest.param("rabbitmq", marks=pytest.mark.thorough)])  # seconds to start
def test_a_killed_consumer_loses_nothing_and_doubles_nothing(live: Live, brokers: Path, adapter: str) -> None:
    broker = killable(adapter, brokers)
    place = f"t{uuid4().hex[:12]}"
    try:
        proof = prove(live, broker, place, messages=600, kills=1)
    finally:
        broker.remove(place)
    assert proof.well, proof
    assert proof.stored == 600
