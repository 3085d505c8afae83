"""`approval`: wait for a person's yes or no."""

from __future__ import annotations

from typing import Annotated

from django.utils import timezone
from pydantic import AfterValidator

from project.durations import Duration
from workflows.actions import Action, Call, Wait, action
from workflows.actions.base import Json, Rehearsal, longer_than_nothing


@action("approval")
class Approval(Action):
    """Waits until somebody opens the step's link, `${{ run.links.<id> }}`, and decides there, or through the API.

    `steps.<id>.outcome` is `approved`, `rejected` or, after `timeout`, `timed_out`. Output: {"outcome", "comment"}.
    """

    timeout: Annotated[Duration, AfterValidator(longer_than_nothing)] | None = None

    def run(self, call: Call) -> Json:
        return Wait(timezone.now() + self.timeout if self.timeout else None, {"outcome": "timed_out"})

    def rehearse(self, call: Call) -> Rehearsal:
        return Rehearsal("wait for a person's decision", {"outcome": "approved", "comment": ""}, "example")
