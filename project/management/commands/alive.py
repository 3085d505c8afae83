"""`manage.py alive worker`: whether this machine's worker still beats, as the health check of its container."""

import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from project.models import Heartbeat


class Command(BaseCommand):
    help = "Exit 0 if the named process (clock, worker, sender) said that it is alive in the last 20 seconds, else 1."
    requires_system_checks = ()  # asked often: nothing but the question

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("process", choices=["clock", "worker", "performer", "sender", "consumer"])

    def handle(self, *args: Any, **options: Any) -> None:
        # Of the clocks only one ticks; workers and senders beat each for itself, as name@host.
        names = [options["process"], f"{options['process']}@{socket.gethostname()}"]
        # Consumers beat as name@host/pid: any number of them may run here.
        here = Q(process__in=names) | Q(process__startswith=f"{names[1]}/")
        if not Heartbeat.alive().filter(here).exists():
            raise CommandError(f"{' or '.join(names)} has not said for 20 s that it is alive.")
