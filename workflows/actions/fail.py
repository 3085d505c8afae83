"""`fail`: end a run that must not go on."""

from workflows.actions import Action, Call, StepError, action
from workflows.actions.base import Json, Rehearsal


@action("fail")
class Fail(Action):
    """Fails the step with `message`; it is not tried again."""

    message: str

    def run(self, call: Call) -> Json:
        raise StepError(self.message, permanent=True)

    def rehearse(self, call: Call) -> Rehearsal:
        raise StepError(self.message, permanent=True)
