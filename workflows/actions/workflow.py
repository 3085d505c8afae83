"""`workflow.run`: start another workflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from project.expressions import is_dynamic
from project.identifiers import new_uid
from project.names import unknown
from workflows.actions import Action, Call, Child, StepError, action
from workflows.actions.base import Json, Named, Rehearsal
from workflows.models import Workflow


@action("workflow.run")
class RunWorkflow(Action):
    """Starts a run of `workflow`. Output, once that succeeded: {"run", "state", "outputs": {step: its output}}.

    `input` is what the child knows as `event`; without it, the run's own. A child that fails, fails the step. With
    `wait: false` the step is done as soon as the child is started.
    """

    workflow: Annotated[str, Named("workflows")]
    input: dict[str, Json] | None = None
    wait: bool = True

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        name = given["workflow"]
        known = list(Workflow.objects.order_by("name").values_list("name", flat=True))
        if not is_dynamic(name) and name not in known:
            yield "workflow", unknown("workflow", name, known)

    def run(self, call: Call) -> Json:
        return Child(self.workflow, call.context["event"] if self.input is None else self.input, self.wait)

    def rehearse(self, call: Call) -> Rehearsal:
        if not Workflow.objects.filter(name=self.workflow, enabled=True, versions__isnull=False).exists():
            raise StepError(f'there is no workflow "{self.workflow}" that is enabled and has a version', permanent=True)
        if not self.wait:
            return Rehearsal(f"start the workflow {self.workflow}", {"workflow": self.workflow})
        output = {"run": str(new_uid()), "state": "succeeded", "outputs": {}}
        return Rehearsal(f"start the workflow {self.workflow}, and wait for it", output, "example")
