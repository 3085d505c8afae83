"""Steps of ordinary code, good and bad. Each leaves a line in a file for every attempt."""

from __future__ import annotations

import itertools
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from project.retry import RetryPolicy
from workflows.actions import Call, OutsideAction, StepError, action
from workflows.actions.base import Json


@action("test.work")
class Work(OutsideAction):
    """Tells the file that it has begun, then behaves as told."""

    default_retry: ClassVar[RetryPolicy] = RetryPolicy(attempts=2, delay=timedelta(0))

    file: str
    seconds: float = 0.0
    how: str = "well"

    def perform(self, call: Call) -> Json:
        with Path(self.file).open("a") as file:
            file.write(f"{call.key} {call.attempt}\n")
        match self.how:
            case "sleeps on the first attempt":
                time.sleep(self.seconds if call.attempt == 1 else 0)
            case "well":
                time.sleep(self.seconds)
            case "refuses":
                raise StepError("no money", permanent=True)
            case "breaks":
                raise RuntimeError("out\0of order")
            case "exits":
                raise SystemExit(3)
            case "swallows what is Exception":
                swallow(Exception)
            case "swallows all":
                swallow(BaseException)
            case "holds the interpreter":
                sum(itertools.repeat(1))  # in C, for ever, and never asks for signals
            case "matches":
                re.match(r"(a+)+$", "a" * 60 + "b")
            case "returns no JSON":
                return {"n": 2**70}
            case "returns zeros":
                return {"text": "a\0b", "path": "C:\\u0000"}
        return {"attempt": call.attempt, "n": call.context["event"].get("n")}


def swallow(kind: type[BaseException]) -> None:
    while True:
        try:
            time.sleep(0.1)
        except kind:
            continue
