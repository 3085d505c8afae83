"""`make chaos` in two minutes: each fault once, two at a time. docs/reliability.md says what is promised."""

from __future__ import annotations

import random

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.storm import Storm, configured, in_pairs
from tests.flow.job import Load
from tests.live import Live
from tests.sinks import HttpSink, SmtpSink

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


def test_every_fault_is_survived(live: Live, http_sink: HttpSink, smtp_sink: SmtpSink) -> None:
    seed = random.randrange(10**6)
    said: list[str] = []
    job = configured(live, http_sink, smtp_sink)
    with Load(job, pause=0.2) as load:  # the other tests want to get on, too
        storm = Storm(job, load, seed=seed, tell=said.append)
        storm.run(in_pairs(list(FAULTS.values()), storm.random))
    report = storm.end()
    assert report.well, "\n".join([f"--seed {seed}", *said, report.table(), report.told()])
