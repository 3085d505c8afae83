"""A stage drains what is due, makes room after a while, and says what it did."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from celery import current_app

from events.models import Event
from project.doorbell import send
from project.stage import Counts, Stage, stage, stages
from tests.live import wait_until


def batches(*counts: Counts, seconds: float = 0.0, batch: int = 1) -> Stage:
    left = iter(counts)

    def drain() -> Counts:
        time.sleep(seconds)
        return next(left, {})

    return Stage("test.batches", lambda: Event.objects.all(), drain, batch)


def test_a_batch_that_was_not_full_was_the_last() -> None:
    assert batches({"a": 5}, {"a": 3}, {"a": 1}, batch=4).drain_for(5) == ({"a": 8}, False)


def test_it_drains_until_nothing_is_due_and_adds_up() -> None:
    assert batches({"a": 2, "b": 0}, {"a": 3, "b": 1}).drain_for(5) == ({"a": 5, "b": 1}, False)


@pytest.mark.parametrize("nothing", [{}, {"a": 0, "b": 0}])
def test_nothing_due_is_nothing_done(nothing: Counts) -> None:
    assert batches(nothing, {"a": 1}).drain_for(5) == ({}, False)


def test_it_makes_room_when_its_time_is_over() -> None:
    counts, left = batches(*[{"a": 1}] * 50, seconds=0.02).drain_for(0.1)
    assert left
    assert 3 <= counts["a"] <= 6


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.mark.parametrize("left", [False, True])
def test_the_task_lets_others_ring_first_and_rings_when_work_is_left(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    monkeypatch.setattr("project.stage.SLICE", 0.0 if left else 5.0)
    rung: list[str] = []
    work = iter([{"a": 1}, {"a": 1}])

    def drain() -> Counts:
        if not left:
            rung.append(send("test.answer"))  # what is committed while it drains
        return next(work, {})

    task = stage("test.answer", rows=lambda: Event.objects.all())(drain)
    try:
        assert send("test.answer") == "rung"
        assert task(by="a test") == {"a": 1 if left else 2}
        assert rung[:1] == ([] if left else ["rung"]), "a bell that rings while the task drains is heard"
        wait_until(lambda: client.llen("events") == 2, what="a second message")
    finally:
        del stages["test.answer"]
        current_app.tasks.pop("test.answer", None)
