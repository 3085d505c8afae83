"""The admin of workflows, edited as YAML, of their runs, and of records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import action, display

from project.admin import Configuration, Facts, confirm, done, goes_to, only
from project.difference import difference
from project.fact_lists import PeriodFilter, RangeFilter, SearchedFacts, TermFilter
from project.live import live
from project.reading import values_of
from project.searching import SearchError, Term, terms
from project.templatetags.facts import COLOURS, code, took
from workflows import control, story, workbench
from workflows.definition import DefinitionError, Problem
from workflows.drawing import draw
from workflows.models import ACTIVE, Record, Run, RunState, Workflow, WorkflowVersion
from workflows.publishing import load, publish
from workflows.scope import FAILURE
from workflows.searching import RUNS, STATES
from workflows.timeline import lines_of, timeline
from workflows.workbench import DefinitionField

EXAMPLE: Final = """\
name: my-workflow
description: What it is for
steps:
  - id: keep
    action: record.put
    with:
      collection: seen
      key: ${{ event.id }}
      value: ${{ event.data }}
"""


OTHERS: Final = 200  # versions that one can be compared with


class WorkflowForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    definition = DefinitionField(
        label="Definition",
        help_text="Saving it publishes a new version. Runs keep the one they started with. "
        "Ctrl and space tell what can be written.",
    )

    class Meta:
        model = Workflow
        fields = ("enabled",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        definition = self.fields.get("definition")
        if not isinstance(definition, DefinitionField):  # whoever may only look has no fields
            return
        definition.serve(self._stored)
        latest = self._stored.versions.first() if self._stored else None
        self.initial.setdefault("definition", latest.source if latest else EXAMPLE)

    @property
    def _stored(self) -> Workflow | None:
        return self.instance if self.instance.pk else None

    def clean_definition(self) -> str:
        text: str = self.cleaned_data["definition"]
        try:
            definition = workbench.definition_of(text, self._stored)
        except DefinitionError as error:
            raise ValidationError([_error(problem) for problem in error.problems]) from error
        self.instance.name, self.instance.description = definition.name, definition.description
        return text


def _error(problem: Problem) -> ValidationError:
    # Through parameters, because a message may hold a percent sign; the editor marks the line.
    return ValidationError("%(problem)s", params={"problem": problem, "line": problem.line})


class VersionInline(TabularInline):
    model = WorkflowVersion
    verbose_name_plural = "versions"
    fields = readonly_fields = ("page", "created_at", "going")
    extra = 0
    tab = True
    hide_title = True
    per_page = 10

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowVersion]:
        return with_runs(super().get_queryset(request))

    def has_add_permission(self, request: HttpRequest, obj: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="version")
    def page(self, version: WorkflowVersion) -> SafeString:
        return goes_to("workflows_workflowversion", version.pk, f"Version {version.number}")

    @admin.display(description="runs under way")
    def going(self, version: Any) -> int:
        return int(version.going)


def with_runs(versions: QuerySet[WorkflowVersion]) -> QuerySet[WorkflowVersion]:
    """The versions with how many of their runs are not at their end, as `going`."""
    runs = Run.objects.filter(version=OuterRef("pk"), state__in=ACTIVE).order_by().values("version")
    return versions.annotate(going=Coalesce(Subquery(runs.annotate(n=Count("pk")).values("n")), 0))


@admin.register(Workflow)
class WorkflowAdmin(Configuration):
    form = WorkflowForm
    list_display = ("name", "description", "latest", "runs", "enabled")
    list_filter = ("enabled",)
    search_fields = ("name", "description")
    fields = ("definition", "enabled")
    shown_instead: ClassVar = {"definition": "shown_definition"}
    inlines = (VersionInline,)
    compressed_fields = False
    change_form_outer_after_template = "admin/workflows/workflow/test.html"
    empty_message = "A workflow is a list of steps that runs when a subscription matches an event."

    def get_custom_urls(self) -> Any:
        return (
            ("check/", "workflows_workflow_check", self.check_text),
            ("words/", "workflows_workflow_words", self.words),
            ("test/", "workflows_workflow_test", self.go_through),
        )

    def check_text(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return workbench.check(request, self._edited(request))

    def words(self, request: HttpRequest, **_: Any) -> HttpResponse:
        self._edited(request)
        return workbench.words(request)

    def go_through(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return workbench.go_through(request, self._edited(request))

    def _edited(self, request: HttpRequest) -> Workflow | None:
        """The workflow that a request from the editor is about; None: a new one. Raises PermissionDenied, Http404."""
        key = request.GET.get("workflow", "").replace("\0", "")
        workflow = only(self, request, key).get() if key else None
        if not self._may_edit(request, workflow):
            raise PermissionDenied
        return workflow

    def _may_edit(self, request: HttpRequest, workflow: Workflow | None) -> bool:
        return self.has_change_permission(request, workflow) if workflow else self.has_add_permission(request)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        workflow = context.get("original")
        if self._may_edit(request, workflow):
            context["test"] = workbench.new_rehearsal(request, workflow)
            context["media"] += context["test"].media
        return super().render_change_form(request, context, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        return super().get_queryset(request).annotate(version=Max("versions__number"))

    @admin.display(description="definition")
    def shown_definition(self, workflow: Workflow) -> SafeString | str:
        latest = workflow.versions.first()
        return code(latest.source, "yaml") if latest else "none"

    @admin.display(description="version")
    def latest(self, workflow: Any) -> str:
        return f"v{workflow.version}" if workflow.version else "none"

    @admin.display(description="runs")
    def runs(self, workflow: Workflow) -> SafeString:
        url = f"{reverse('admin:workflows_run_changelist')}?workflow={workflow}"
        return format_html('<a class="text-link" href="{}">Show</a>', url)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        version, new = publish(form.cleaned_data["definition"])
        obj.pk = version.workflow_id
        obj._state.adding = False
        obj.save(update_fields=["enabled"])
        self.message_user(
            request, f"Published as version {version.number}." if new else f"Version {version.number} says the same."
        )


@admin.register(WorkflowVersion)
class WorkflowVersionAdmin(Facts):
    list_display = ("__str__", "created_at", "going")
    list_filter = (("workflow", RelatedDropdownFilter),)
    list_select_related = ("workflow",)
    exact_search = ("workflow__name",)
    search_help_text = "A workflow"
    fields = ("number",)
    actions_detail = ("publish_again",)
    empty_message = "Saving a workflow publishes a version."

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowVersion]:
        return with_runs(super().get_queryset(request)).select_related("workflow")

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("workflows.change_workflow"))

    @admin.display(description="runs under way")
    def going(self, version: Any) -> int:
        return int(version.going)

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        version = self.get_object(request, unquote(object_id))
        if version is not None:
            kwargs["extra_context"] = self._comparison(version, request.GET.get("with", ""))
        return super().change_view(request, object_id, *args, **kwargs)

    def _comparison(self, version: WorkflowVersion, chosen: str) -> dict[str, Any]:
        """The version beside the one that was chosen, or the one before it."""
        others = list(version.workflow.versions.exclude(pk=version.pk).defer("source", "definition")[:OTHERS])
        before = next((other for other in others if other.number < version.number), None)
        other = next((other for other in others if str(other.number) == chosen), before)
        first, second = sorted((other, version), key=lambda one: one.number) if other else (None, None)
        return {
            "title": str(version),
            "others": others,
            "first": first,
            "second": second,
            "newest": version.number > max((one.number for one in others), default=0),
            "lines": difference(first.source, second.source, "yaml") if first and second else [],
        }

    @action(
        description="Publish this one again",
        icon="history",
        permissions=["operate"],
        dialog=confirm(
            "Publish this version again?",
            "It becomes the newest one under a new number, and new runs take it. Runs that are under way keep theirs.",
            "Publish",
        ),
    )
    def publish_again(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        old = only(self, request, object_id).get()
        try:
            version, new = publish(old.source, name=old.workflow.name)
        except DefinitionError as error:
            self.message_user(request, f"It can no longer be published: {error}", messages.ERROR)
            return done(request, reverse("admin:workflows_workflowversion_change", args=[old.pk]))
        if new:
            self.log_change(request, old.workflow, f"Published version {old.number} again, as {version.number}.")
            self.message_user(request, f"Version {old.number} is published again, as version {version.number}.")
        else:
            self.message_user(request, f"The newest version, {version.number}, says the same.", messages.WARNING)
        return done(request, reverse("admin:workflows_workflow_change", args=[old.workflow_id]))

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Nothing for the newest one."""
        version = self.get_object(request, unquote(str(object_id)))
        newest = version and not version.workflow.versions.filter(number__gt=version.number).exists()
        return [] if newest else super().get_actions_detail(request, object_id)


@dataclass(frozen=True)
class Deed:
    """What people do to runs, and the words in which they are asked first."""

    name: str
    verb: str
    done: str
    states: tuple[str, ...]
    others: str
    consequence: str

    def do(self, runs: QuerySet[Run], by: object) -> list[UUID]:
        """Do it to those that it can be done to; returns which."""
        uids = list(runs.filter(state__in=self.states).values_list("pk", flat=True))
        if self.name == "cancel":
            control.cancel(Run.objects.filter(pk__in=uids), reason=f"cancelled by {by}")
            return list(Run.objects.filter(pk__in=uids, state=RunState.CANCELLED).values_list("pk", flat=True))
        return control.retry(uids, newest=self.name == "retry_newest")


ENDED_BADLY: Final = (RunState.FAILED, RunState.CANCELLED)
DEEDS: Final = {
    deed.name: deed
    for deed in (
        Deed(
            "cancel",
            "Cancel",
            "cancelled",
            ACTIVE,
            "at their end already",
            "They end where they stand. What they have done stays done; nothing is undone.",
        ),
        Deed(
            "retry",
            "Retry",
            "retried",
            ENDED_BADLY,
            "neither failed nor cancelled",
            "They go on from where they failed, with the version of the workflow that they started with. "
            "What succeeded is not done again.",
        ),
        Deed(
            "retry_newest",
            "Retry with the newest version",
            "retried with the newest version",
            ENDED_BADLY,
            "neither failed nor cancelled",
            "They go on from where they failed, with the newest version of their workflow. Steps that succeeded and "
            "are in it, too, are not done again.",
        ),
    )
}


def _states(run: Run) -> dict[str, str]:
    """Where the run's steps stand, by their ids, for the graph."""
    return {id_: entry["state"] for id_, entry in run.steps.items() if id_ != FAILURE}


def _times(told: Mapping[str, Any]) -> dict[str, str]:
    """What each step took, the last time that it was done; of a loop, how many of its items are done."""
    rows: dict[str, list[Any]] = defaultdict(list)
    for step in told["steps"]:
        rows[step["id"]].append(step)
    return {
        id_: f"{sum(step['state'] == 'succeeded' for step in steps)} of {len(steps)}"
        if steps[-1]["item"] is not None
        else took(steps[-1]["started_at"], steps[-1]["finished_at"])
        for id_, steps in rows.items()
    }


class StateFilter(TermFilter):
    title = parameter_name = "state"

    def values(self) -> Iterable[str]:
        return STATES


class WorkflowFilter(TermFilter):
    title = parameter_name = "workflow"

    def values(self) -> Iterable[str]:
        return Workflow.objects.values_list("name", flat=True)


@admin.register(Run)
class RunAdmin(SearchedFacts):
    search = RUNS
    list_display = ("shown_workflow", "state_badge", "trigger", "started_at", "finished_at", "event")
    list_filter = (StateFilter, WorkflowFilter, PeriodFilter, ("started_at", RangeFilter))
    search_help_text = "uid, event, workflow, subscription, words"
    fields = ("state",)
    actions = ("cancel_selected", "retry_selected", "retry_newest_selected")
    actions_detail = ("cancel", "retry", "retry_newest")
    empty_message = "No runs. They start when a subscription matches an event."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        runs: QuerySet[Run] = super().get_queryset(request)
        runs = runs.select_related("workflow", "version").defer("version__source", "version__definition")
        return runs if self.is_page(request) else runs.defer("input", "steps")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Run | None:
        """The run, or the run of the step, with this uid: a delivery knows only the step it came from."""
        found = super().get_object(request, object_id, from_field)
        uid = self.uid_in(object_id)
        return found or (self.get_queryset(request).filter(step_runs__uid=uid).first() if uid else None)

    @admin.display(description="workflow")
    def shown_workflow(self, run: Run) -> str:
        return f"{run.workflow} v{run.version.number}"

    @display(description="state", label=COLOURS, ordering="state")
    def state_badge(self, run: Run) -> str:
        return "queued" if run.queued and run.state in ACTIVE else run.state

    @admin.display(description="came from")
    def event(self, run: Run) -> SafeString | str:
        if run.parent:
            return goes_to("workflows_run", run.parent, "Parent")
        # The page of events, by its address: this package does not know them.
        return goes_to("events_event", run.origin, "Show") if run.origin else "–"

    def tell(self, run: Run) -> dict[str, Any]:
        told, now = story.tell([run])[0], timezone.now()
        return {
            "title": f"Run of {run.workflow}",
            "run": told,
            "timeline": timeline(lines_of(told, now)),
            "graph": draw(load(run.version_id), _states(run), _times(told)),
            "anchors": {step["uid"]: step["id"] for step in {step["id"]: step for step in told["steps"]}.values()},
            "live": live(told, story.awaited(told, now), now),
        }

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel_selected(self, request: HttpRequest, runs: QuerySet[Run]) -> HttpResponse | None:
        return self._do(DEEDS["cancel"], request, runs)

    @admin.action(description="Retry", permissions=["operate"])
    def retry_selected(self, request: HttpRequest, runs: QuerySet[Run]) -> HttpResponse | None:
        return self._do(DEEDS["retry"], request, runs)

    @admin.action(description="Retry with the newest version", permissions=["operate"])
    def retry_newest_selected(self, request: HttpRequest, runs: QuerySet[Run]) -> HttpResponse | None:
        return self._do(DEEDS["retry_newest"], request, runs)

    @action(description="Cancel", icon="cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do_one(DEEDS["cancel"], request, object_id)

    @action(description="Retry", icon="replay", permissions=["operate"])
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do_one(DEEDS["retry"], request, object_id)

    @action(description="Retry with the newest version", icon="upgrade", permissions=["operate"])
    def retry_newest(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do_one(DEEDS["retry_newest"], request, object_id)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Only what changes something."""
        run = self.get_object(request, unquote(str(object_id)))
        useful = {deed.name for deed in DEEDS.values() if run and run.state in deed.states}
        found = super().get_actions_detail(request, object_id)
        return [it for it in found if it.method.original_function_name in useful]

    def _do_one(self, deed: Deed, request: HttpRequest, object_id: str) -> HttpResponse:
        runs = only(self, request, object_id)
        page = reverse("admin:workflows_run_change", args=[runs.get().pk])
        return self._do(deed, request, runs, back=page) or redirect(page)

    def _do(
        self, deed: Deed, request: HttpRequest, runs: QuerySet[Run], back: str | None = None
    ) -> HttpResponse | None:
        """Ask, saying how many it concerns; when that is confirmed, do it and say what was done."""
        if "confirmed" in request.POST:
            number = runs.count()
            done = deed.do(runs, request.user)
            for run in Run.objects.filter(pk__in=done).select_related("workflow"):
                self.log_change(request, run, f"{deed.done.capitalize()}.")
            left = number - len(done)
            told = f"{len(done)} {deed.done}."
            self.message_user(request, f"{told} {left} left alone: {deed.others}." if left else told)
            return None
        chosen = list(runs)
        concerned = [run for run in chosen if run.state in deed.states]
        context = {
            **self.admin_site.each_context(request),
            "title": f"{deed.verb}?",
            "opts": self.opts,
            "deed": deed,
            "concerned": concerned,
            "left": len(chosen) - len(concerned),
            "children": control.descendants([run.pk for run in concerned]) if deed.name == "cancel" else 0,
            "chosen": chosen,
            "box": ACTION_CHECKBOX_NAME,
            "back": back or request.get_full_path(),
        }
        return TemplateResponse(request, "admin/workflows/run/confirm.html", context)


@admin.register(Record)
class RecordAdmin(Facts):
    list_display = ("collection", "key", "version", "updated_at")
    list_display_links = ("collection", "key")
    exact_search = ("key",)
    search_help_text = "A collection or a key; collection:orders key:A-10*"
    fields = ("collection", "key", "version", "updated_at", "shown")
    readonly_fields = ("shown",)
    empty_message = "No records. The steps record.put and record.patch keep documents here."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        try:
            for term in terms(search_term):
                queryset = queryset.filter(self._meant(term))
        except SearchError as error:
            self.message_user(request, str(error), messages.ERROR)
            return queryset.none(), False
        return queryset, False

    def _meant(self, term: Term) -> Q:
        """What one_record_per_key leads to, which begins with the collection."""
        collections = values_of(Record, "collection")
        name = term.name or ("collection" if term.value in collections else "key")
        if name == "collection":
            return Q(collection=term.value)
        if name != "key":
            raise SearchError(f"There is no field {name} to search by: known are collection and key.")
        if term.value.endswith("*") and not term.quoted:
            return Q(collection__in=collections, key__startswith=term.value[:-1])
        return Q(collection__in=collections, key=term.value)

    @admin.display(description="value")
    def shown(self, record: Record) -> SafeString:
        return code(record.value)
