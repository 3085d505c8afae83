"""`manage.py send_events`: the process that brings emitted events to Carillon. Several may run."""

from __future__ import annotations

import logging
import random
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, connections

from carillon_outbox.sending import Away, Carillon, Sent, send_batch, status

log = logging.getLogger("carillon_outbox")

LONGEST_PAUSE = 60.0  # seconds between two tries while Carillon, or the database, is away


class Command(BaseCommand):
    help = "Send emitted events to Carillon (CARILLON_URL, CARILLON_API_KEY), until it is told to stop."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="send what there is, and end")
        parser.add_argument("--interval", type=float, default=0.5, help="seconds between two looks (default: 0.5)")
        parser.add_argument("--database", default="default", help="where the events are emitted")

    def handle(self, *, once: bool, interval: float, database: str, **options: Any) -> None:
        url, key = (getattr(settings, name, "") for name in ("CARILLON_URL", "CARILLON_API_KEY"))
        if not url or not key:
            raise CommandError("Set CARILLON_URL and CARILLON_API_KEY in the settings.")
        carillon, stop, failures = Carillon(url, key), _told_to_stop(), 0
        while not stop.is_set():
            try:
                sent = send_batch(carillon, database)
            except (Away, OperationalError, InterfaceError) as error:
                if once:
                    raise CommandError(str(error)) from error
                failures += 1
                pause = _pause(failures, error)
                log.warning("%s; next try in %.1f s; %s", str(error).strip(), pause, _behind(database))
                stop.wait(pause)
                continue
            failures = 0
            if sent:
                log.info("%s", _line(sent))
            elif once:
                break
            if not sent.full and not once:
                stop.wait(interval)
            connections[database].close_if_unusable_or_obsolete()


def _told_to_stop() -> threading.Event:
    """Set by SIGTERM and SIGINT: the batch under way comes to its end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _pause(failures: int, error: Exception) -> float:
    longest = min(LONGEST_PAUSE, 2.0 ** min(failures, 10) / 2)
    asked = error.retry_after if isinstance(error, Away) else 0.0
    return max(asked, longest * random.uniform(0.5, 1.0))


def _behind(database: str) -> str:
    connections[database].close_if_unusable_or_obsolete()
    try:
        return str(status(database))
    except (OperationalError, InterfaceError):
        connections[database].close()
        return "the database cannot be asked"


def _line(sent: Sent) -> str:
    counts = f"accepted={sent.accepted} duplicates={sent.duplicates} refused={sent.refused}"
    return f"{counts} oldest_seconds={sent.oldest:.1f}"
