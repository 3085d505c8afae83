"""`manage.py send`: one event from the command line, by the way that the API's events take."""

import sys
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from events import ingest
from events.cloudevents import PLAIN, read
from events.models import Source
from project import metrics
from project.api import BadRequest, Problem, load
from project.names import unknown


class Command(BaseCommand):
    help = "Send one event. Prints its uid and where its trace is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("type", metavar="TYPE", help="the event type, such as order.paid")
        parser.add_argument(
            "--data", default="null", metavar="JSON", help="its data; @FILE: from a file, -: from the input"
        )
        parser.add_argument(
            "--source", default="local", help="a source, or something below it: shop, shop/eu (default: local)"
        )
        parser.add_argument("--subject", default="", help="what it is about")
        parser.add_argument("--id", default="", help="its id; sent again, it counts once")

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["source"].strip("/")
        given = {name: options[name] for name in ("type", "subject", "id") if options[name]}
        body = orjson.dumps({**given, "source": f"/{path}", "data": self.data(options["data"])})
        try:
            events, _ = read(PLAIN, {}, body)
            [stored] = ingest.accept(events, source=self.source(path.partition("/")[0]).uri)
        except Problem as error:
            told = [f"  {fault.path}: {fault.message}" for fault in error.errors] or [f"  {error.text}"]
            raise CommandError("\n".join(["The event was refused, and nothing was stored:", *told])) from error
        metrics.flush()
        if stored.duplicate:
            self.stderr.write(f"{stored.source} has sent the id {stored.id} before; this is the event of then.")
        self.stdout.write(f"{stored.uid}\n{settings.CARILLON_URL}/api/v1/events/{stored.uid}/trace")

    def data(self, given: str) -> Any:
        """The JSON that --data means."""
        try:
            if given == "-":
                text = sys.stdin.read()
            else:
                text = Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
            return load(text.encode())
        except (OSError, UnicodeError) as error:
            raise CommandError(f"--data cannot be read: {error}") from error
        except BadRequest as error:
            raise CommandError(f"--data: {error.text.replace('The body', 'This')}") from error

    def source(self, name: str) -> Source:
        known = {source.name: source for source in Source.objects.order_by("name")}
        if name not in known:
            raise CommandError(f"--source: {unknown('source', name, list(known))}")
        if not known[name].enabled:
            raise CommandError(f"--source: {name} is disabled.")
        return known[name]
