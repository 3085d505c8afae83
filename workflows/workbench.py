"""What stands beside the editor of a workflow: what is wrong with the text, its graph, completion, a test run."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from pydantic import ValidationError as PydanticError

from project.documents import read
from project.editor import SCRIPTS, CodeField, Editor
from project.trying import DocumentField, EventForm
from workflows.definition import Definition, DefinitionError, Problem, parse
from workflows.drawing import draw
from workflows.models import Workflow
from workflows.rehearsal import Given, given_outcomes, rehearse
from workflows.vocabulary import vocabulary

RESULTS: Final = "admin/workflows/workflow/test_results.html"
# The stubs know only strings.
_SCRIPTS: Final[Any] = [Script(f"carillon/{name}.js", defer=True) for name in ("outline", "completion", "workflow")]


def definition_of(text: str, workflow: Workflow | None) -> Definition:
    """What the text means, as the next version of the workflow, or for None as a new one. Raises DefinitionError."""
    definition = parse(text)
    if workflow is not None and definition.name != workflow.name:
        raise _misnamed(text, f'this is the workflow "{workflow.name}"; a workflow keeps its name')
    if workflow is None and Workflow.objects.filter(name=definition.name).exists():
        raise _misnamed(text, f'there is a workflow "{definition.name}"; edit that one')
    return definition


def _misnamed(text: str, message: str) -> DefinitionError:
    return DefinitionError([Problem("name", read(text)[0].line(("name",)), message)])


# --- the editor ------------------------------------------------------------------------------------------------------


class WorkflowEditor(Editor):
    """The editor with the workflow's graph beside it."""

    template_name = "admin/workflows/workflow/editor.html"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__("yaml", attrs, rows=20)

    @property
    def media(self) -> forms.Media:
        # One list, because Django keeps the order only inside a list.
        return super().media + forms.Media(js=[*SCRIPTS, *_SCRIPTS])

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        return {**context, "graph": _graph_of(str(value or ""))}


class DefinitionField(CodeField):
    """A workflow's definition in YAML."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(language="yaml", **kwargs)
        self.widget = WorkflowEditor()

    def serve(self, workflow: Workflow | None) -> None:
        """Have the editor ask and complete while somebody types."""
        self.widget.attrs |= {
            "data-check": f"{reverse('admin:workflows_workflow_check')}?{_query(workflow)}",
            "data-words": reverse("admin:workflows_workflow_words"),
        }


def _graph_of(text: str) -> SafeString | str:
    try:
        return draw(parse(text))
    except DefinitionError:
        return ""


def _query(workflow: Workflow | None) -> str:
    return f"workflow={workflow.pk}" if workflow else ""


def check(request: HttpRequest, workflow: Workflow | None) -> JsonResponse:
    """What is wrong with the text somebody is writing, by the code that decides whether it can be saved; and its graph.

    The graph is null when something is wrong.
    """
    try:
        definition = definition_of(request.POST.get("text", "").replace("\r\n", "\n"), workflow)
    except DefinitionError as error:
        problems = [{"line": problem.line, "message": str(problem)} for problem in error.problems]
        return JsonResponse({"problems": problems, "graph": None})
    return JsonResponse({"problems": [], "graph": draw(definition)})


def words(request: HttpRequest) -> HttpResponse:
    """The vocabulary as JSON, which a browser keeps until something in it changes."""
    answer = JsonResponse(vocabulary())
    answer["ETag"] = f'"{hashlib.sha256(answer.content).hexdigest()}"'
    answer["Cache-Control"] = "private, no-cache"  # ask whether it changed
    if request.headers.get("If-None-Match") == answer["ETag"]:
        return HttpResponseNotModified(headers={"ETag": answer["ETag"]})
    return answer


# --- the test run ----------------------------------------------------------------------------------------------------


class RehearsalForm(EventForm):
    """What a test run goes through the workflow with."""

    outcomes = DocumentField(
        required=False,
        rows=3,
        label="What steps leave",
        help_text='In place of what is made up: {"charge": {"output": {"paid": true}}}, or {"charge": {"error": "no"}} '
        "for a step that fails. Every item of a loop leaves the same.",
    )

    def clean_outcomes(self) -> dict[str, Given]:
        try:
            return given_outcomes.validate_python(self.cleaned_data["outcomes"])
        except PydanticError as error:
            wrong = error.errors(include_url=False)[0]
            place = ".".join(map(str, wrong["loc"]))
            raise ValidationError(
                '%(place)s: %(message)s; a step leaves {"output": …} or {"error": "…"}',
                params={"place": place, "message": wrong["msg"]},
            ) from error


def new_rehearsal(request: HttpRequest, workflow: Workflow | None) -> RehearsalForm:
    """The form of a test run, with the likeliest event in it."""
    return RehearsalForm(person=request.user, workflow=workflow.name if workflow else "")


def go_through(request: HttpRequest, workflow: Workflow | None) -> HttpResponse:
    """Go through the text in the editor, saved or not, and tell what it would do."""
    form = RehearsalForm(request.POST, person=request.user)
    context: dict[str, Any] = {"form": form}
    try:
        definition = definition_of(request.POST.get("definition", "").replace("\r\n", "\n"), workflow)
    except DefinitionError as error:
        return TemplateResponse(request, RESULTS, {**context, "problems": error.problems})
    if form.is_valid():
        story = rehearse(definition, form.cleaned_data["document"], form.cleaned_data["outcomes"])
        context |= {"story": story, "graph": draw(definition, story.states)}
    return TemplateResponse(request, RESULTS, context)
