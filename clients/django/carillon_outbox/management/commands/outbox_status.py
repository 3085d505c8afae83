"""`manage.py outbox_status`: how far the outbox is behind, for people and for monitoring."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from carillon_outbox.sending import status


class Command(BaseCommand):
    help = "Print how many events wait, for how long, and how many were refused."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--max-age", type=float, metavar="SECONDS", help="fail when one waits for longer")
        parser.add_argument("--database", default="default", help="where the events are emitted")

    def handle(self, *, max_age: float | None, database: str, **options: Any) -> None:
        found = status(database)
        self.stdout.write(str(found))
        if max_age is not None and found.oldest > max_age:
            raise CommandError(f"an event has waited for {found.oldest:.1f} s; does send_events run?")
