"""`manage.py consume`: stores what brokers deliver, until it is told to stop."""

import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import close_old_connections, connection

from events.consumers import Consumers
from events.consuming import hush_clients
from events.models import Source
from project import memory, metrics
from project.names import unknown


class Command(BaseCommand):
    requires_system_checks = ()  # they would import every view, for nothing
    help = "Store as events what message brokers deliver, for the sources that consume from one. Run any number of it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "names", metavar="NAME", nargs="*", help="only these sources; none: all, also those that are added later"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.check_names(options["names"])
        hush_clients()
        memory.settle()
        asyncio.run(self.consume(options["names"]))
        close_old_connections()
        metrics.flush()

    def check_names(self, names: list[str]) -> None:
        """Raise CommandError unless all are sources that consume from a broker."""
        if not names:
            return
        known = list(Source.of_brokers().values_list("name", flat=True))
        for name in names:
            if name not in known:
                raise CommandError(unknown("source that consumes from a broker", name, known))
        connection.close()

    async def consume(self, names: list[str]) -> None:
        consumers = Consumers(names)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, consumers.stop.set)
        await consumers.run()
