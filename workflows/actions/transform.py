"""`transform`: shape values for the steps after it."""

from workflows.actions import Action, Call, action
from workflows.actions.base import Json, Rehearsal


@action("transform")
class Transform(Action):
    """Its output is `values`, with the expressions in them evaluated."""

    values: Json

    def run(self, call: Call) -> Json:
        return self.values

    def rehearse(self, call: Call) -> Rehearsal:
        return Rehearsal(output=self.values)
