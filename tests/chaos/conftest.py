"""The reference job in real processes, under load."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.flow.job import Job
from tests.live import Live
from tests.sinks import HttpSink, SmtpSink


@pytest.fixture
def job(live: Live, http_sink: HttpSink, smtp_sink: SmtpSink) -> Job:
    """Web, worker, sender and clock are up and have done the job once."""
    job = Job.configure(live, http_sink, smtp_sink, mail=False)
    with connection.cursor() as cursor:
        # Tests run without it, for speed. Here PostgreSQL is killed, and what it has committed has to be there.
        cursor.execute(f"ALTER DATABASE {connection.settings_dict['NAME']} SET synchronous_commit = on")
    connection.close()
    live.environment.update(CLOCK_DRAINS_AFTER="2")
    live.start("web", "worker", "sender", "clock")
    live.wait_ready()
    job.send("warm-up")
    job.wait_settled()
    return job
