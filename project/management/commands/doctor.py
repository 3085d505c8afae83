"""`manage.py doctor`: everything that can be wrong, and the remedy."""

import shutil
import textwrap
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from project.doctor import Finding, examine


class Command(BaseCommand):
    help = "Look at settings, servers, processes, waiting rows and configuration; exit 1 if anything is wrong."
    requires_system_checks: list[str] = []  # it reports them itself

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(examine())
        width = max(len(finding.name) for finding in found)
        for finding in found:
            self.tell(finding, width)
        wrong = sum(bool(finding.wrong) for finding in found)
        if wrong:
            raise CommandError(f"Wrong: {wrong} of {len(found)}.")
        self.stdout.write("All is well.")

    def tell(self, finding: Finding, width: int) -> None:
        mark = self.style.ERROR("WRONG") if finding.wrong else self.style.SUCCESS("ok   ")
        first, *rest = self.wrapped(finding.wrong or finding.note, width) or [""]
        self.stdout.write(f"{mark}  {finding.name:<{width}}  {first}".rstrip())
        for line in [*rest, *(self.wrapped(f"→ {finding.remedy}", width) if finding.remedy else [])]:
            self.stdout.write(f"{'':{width + 9}}{line}")

    def wrapped(self, text: str, width: int) -> list[str]:
        columns = max(40, shutil.get_terminal_size().columns - width - 9)
        return textwrap.wrap(" ".join(text.split()), columns, break_long_words=False)
