"""`manage.py apply`: configuration from YAML files."""

import getpass
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project import audit
from project.apply import Change, Outcome, Rejected, apply, read_files
from project.kinds import Written
from project.secrets import references

SIGNS: Final = {
    Outcome.CREATED: "+",
    Outcome.CHANGED: "~",
    Outcome.UNCHANGED: "=",
    Outcome.DELETED: "-",
    Outcome.DISABLED: "!",
}


class Command(BaseCommand):
    help = (
        "Make the configuration what the documents say, all of it or nothing. Applying it again changes nothing. "
        "docs/reference/configuration.md lists the kinds and their fields."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="YAML files, or folders that hold some")
        parser.add_argument("--dry-run", action="store_true", help="change nothing, and print what would change")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="delete what is in no document, of the documents' kinds; what facts refer to is disabled instead",
        )
        parser.add_argument("--yes", action="store_true", help="prune without asking")

    def handle(self, *args: Any, **options: Any) -> None:
        prune, dry_run = options["prune"], options["dry_run"]
        try:
            found = read_files(options["paths"])
            if prune and not dry_run and not options["yes"]:
                self.ask(apply(found, prune=True, dry_run=True))
            with audit.by(f"manage.py apply ({somebody()})"):
                changes = apply(found, prune=prune, dry_run=dry_run)
        except Rejected as error:
            count = len(error.problems)
            raise CommandError(f"{error}\nNothing was applied: {count} problem{'s' * (count != 1)}.") from error
        self.tell(changes, differences=dry_run or options["verbosity"] > 1)
        self.warn_of_unset(found)
        self.stdout.write(summary(changes, dry_run=dry_run))

    def tell(self, changes: Sequence[Change], *, differences: bool) -> None:
        for change in changes:
            if change.outcome is Outcome.UNCHANGED:
                continue
            because = f", not deleted: it has {change.reason}" if change.reason else ""
            self.stdout.write(f"{SIGNS[change.outcome]} {change.kind} {change.name} ({change.outcome}{because})")
            if differences and change.outcome in (Outcome.CREATED, Outcome.CHANGED):
                for line in change.difference.splitlines() or ["(a secret)"]:
                    self.stdout.write(f"    {line}", self.style_of(line))

    def style_of(self, line: str) -> Any:
        return {"+": self.style.SUCCESS, "-": self.style.ERROR}.get(line[:1])

    def ask(self, changes: Sequence[Change]) -> None:
        """Go on only when the person agrees to what would be pruned."""
        going = [change for change in changes if change.outcome in (Outcome.DELETED, Outcome.DISABLED)]
        if not going:
            return
        self.stdout.write("In no document:")
        self.tell(going, differences=False)
        try:
            answer = input(f"Delete or disable {'these' if len(going) > 1 else 'this'}? [y/N] ")
        except EOFError:
            raise CommandError("Nobody is there to answer; --yes prunes without asking. Nothing was applied.") from None
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was applied.")

    def warn_of_unset(self, found: Sequence[Written]) -> None:
        for written in found:
            for name in references([written.data.get(field) for field in ("secret", "previous_secret", "settings")]):
                if name not in settings.ENVIRONMENT:
                    place = f"{written.file}:{written.line(('settings',))}"
                    self.stderr.write(f"{place}: ${{{name}}} is not set here; it has to be where it is used.")


def somebody() -> str:
    """Who the operating system says it is."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        return f"user {os.getuid()}"


def summary(changes: Sequence[Change], *, dry_run: bool) -> str:
    counts = Counter(change.outcome for change in changes)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]) or "no documents"
    if not set(counts) - {Outcome.UNCHANGED}:
        return f"Nothing to change: {told}."
    return f"Nothing was changed; it would be: {told}." if dry_run else f"Applied: {told}."
