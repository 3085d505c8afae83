"""`manage.py perform`: the due steps of ordinary code, done here."""

import time
from typing import Any

from django.core.management.base import BaseCommand

from workflows import code


class Command(BaseCommand):
    help = "Do the due steps of ordinary code, one after the other, and end. Without Redis the clock calls it."

    def handle(self, *args: Any, **options: Any) -> None:
        code.expendable = True
        started, steps = time.monotonic(), 0
        while time.monotonic() - started < 60 and (done := code.perform_one()):
            steps += done["steps"]
        self.stdout.write(f"{steps} steps")
