"""`manage.py clock`: rings for what is due until it is told to stop."""

import signal
from typing import Any

from django.core.management.base import BaseCommand

from project.clock import Clock


class Command(BaseCommand):
    requires_system_checks = ()  # they would import every view, for nothing
    help = "Ring for what is due, and do the work itself while Redis is away. Run two for safety: one ticks at a time."

    def handle(self, *args: Any, **options: Any) -> None:
        clock = Clock()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: clock.stop.set())
        clock.run()
