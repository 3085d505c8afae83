"""The API of runs: list, start, cancel, retry; decide on a step that waits; read records."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from project.api import Conflict, CursorPagination, Fault, SearchPagination, Unprocessable
from project.authorization import HasScope, caller_of
from project.body import Body, Moment, fields_of, not_null
from project.identifiers import first_uid_at
from project.names import unknown
from project.openapi import PAGES, WithBody, answers, body
from project.parameters import asked, check
from project.scopes import Scope
from workflows import control, decisions, engine, serializers, story
from workflows.decisions import MAX_COMMENT, Outcome, Question, Standing
from workflows.models import Record, Run, Workflow
from workflows.searching import RUNS, STATES

PARAMETERS: Final = {"workflow": "workflow", "state": "state", "origin": "event", "parent": "parent"}


class Input(Body):
    input: dict[str, Any]


class Retry(Body):
    version: Literal["pinned", "newest"] = "pinned"


class Decision(Body):
    outcome: Outcome
    comment: Annotated[str, Field(max_length=MAX_COMMENT)] = ""


class Filter(Body):
    """Which runs to cancel."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    workflow: Annotated[str | None, BeforeValidator(not_null), WithJsonSchema({"type": "string"})] = None
    state: Annotated[
        Literal["running", "waiting"] | None,
        BeforeValidator(not_null),
        WithJsonSchema({"type": "string", "enum": ["running", "waiting"]}),
    ] = None
    since: Moment = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:  # an empty request must not cancel everything
            raise ValueError("name at least one of workflow, state, since")
        return self

    def chosen(self) -> QuerySet[Run]:
        """The runs that it names. Raises Unprocessable for a workflow that is not there."""
        runs = Run.objects.all()
        if self.workflow is not None:
            if not Workflow.objects.filter(name=self.workflow).exists():
                message = unknown("workflow", self.workflow, _workflow_names())
                raise Unprocessable(message, [Fault("workflow", message)])
            runs = runs.filter(workflow__name=self.workflow)
        if self.state is not None:
            runs = runs.filter(state=self.state)
        if self.since is not None:
            runs = runs.filter(pk__gte=first_uid_at(self.since))
        return runs


class RunsView(APIView):
    """Runs."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="list_runs",
        summary="List runs, newest first",
        description="With words, or several filters, a page may be short or empty while `next` is not null: the search "
        "went as far as its time allowed, and `next` goes on from there.",
        parameters=[
            OpenApiParameter("workflow", str, description="The workflow's name."),
            OpenApiParameter("state", str, enum=list(STATES)),
            OpenApiParameter("origin", OpenApiTypes.UUID, description="The event, or the step of another run."),
            OpenApiParameter("parent", OpenApiTypes.UUID, description="The run whose steps started them."),
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="Made at or after."),
            OpenApiParameter("until", OpenApiTypes.DATETIME, description="Made before."),
            OpenApiParameter(
                "q", str, description="A search as in the admin: `subscription:paid-orders state:failed timeout`."
            ),
            *PAGES,
        ],
        responses={200: serializers.RunPage, **answers(400, 401, 403, 406, 503)},
    )
    def get(self, request: Request) -> Response:
        pages = SearchPagination()
        page = pages.search(_RUNS, asked(RUNS, request.query_params, PARAMETERS), request)
        return pages.get_paginated_response([story.summary(run) for run in page])


class RunView(APIView):
    """One run."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="get_run",
        summary="A run with its steps, what they sent, and the runs that they started",
        responses={200: serializers.RunTrace, **answers(401, 403, 404, 406, 503)},
    )
    def get(self, request: Request, uid: UUID) -> Response:
        return Response(story.tell([_run(uid)])[0])


class CancelView(APIView):
    """Ending a run."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.RUNS_WRITE}

    @extend_schema(
        operation_id="cancel_run",
        summary="End a run where it stands, and what it started",
        request=None,
        responses={200: serializers.RunSummary, **answers(401, 403, 404, 406, 409, 503)},
    )
    def post(self, request: Request, uid: UUID) -> Response:
        run = _run(uid)
        if not engine.cancel(Run.objects.filter(pk=uid), reason=f"cancelled by {caller_of(request)}"):
            raise Conflict(f"The run is {_run(uid).state}; only one that is running or waiting can be cancelled.")
        return Response(story.summary(_run(run.uid)))


class CancelManyView(APIView):
    """Ending many runs."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.RUNS_WRITE}
    schema = WithBody()

    @extend_schema(
        operation_id="cancel_runs",
        summary="End all runs that a filter names, and what they started",
        description="Some at a time: should the request break off, those that were cancelled are; ask again.",
        request=body(Filter),
        responses={200: serializers.Cancelled, **answers(400, 401, 403, 406, 413, 415, 422, 503)},
    )
    def post(self, request: Request) -> Response:
        runs = fields_of(request, Filter).chosen()
        return Response({"cancelled": control.cancel(runs, reason=f"cancelled by {caller_of(request)}")})


class RetryView(APIView):
    """Going on with a run that failed."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.RUNS_WRITE}

    @extend_schema(
        operation_id="retry_run",
        summary="Have a failed or cancelled run go on from where it failed",
        description="With the version it started with (`pinned`), or the newest one. What succeeded is not done again.",
        request=body(Retry),
        responses={202: serializers.RunSummary, **answers(400, 401, 403, 404, 406, 409, 413, 415, 422, 503)},
    )
    def post(self, request: Request, uid: UUID) -> Response:
        _run(uid)
        newest = fields_of(request, Retry).version == "newest"
        try:
            engine.retry(uid, newest=newest)
        except engine.NotEnded as error:
            raise Conflict(str(error)) from error
        return Response(story.summary(_run(uid)), status=202)


class StartView(APIView):
    """Starting a run by hand."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.RUNS_WRITE}
    schema = WithBody()

    @extend_schema(
        operation_id="start_run",
        summary="Start a run of a workflow with any input",
        description="The input is what the workflow's expressions see as `event`.",
        request=body(Input),
        responses={202: serializers.RunSummary, **answers(400, 401, 403, 404, 406, 409, 413, 415, 422, 503)},
    )
    def post(self, request: Request, name: str) -> Response:
        given = fields_of(request, Input).input
        try:
            run = control.start(name, given, by=caller_of(request))
        except Workflow.DoesNotExist as error:
            raise Http404(unknown("workflow", name, _workflow_names())) from error
        except control.CannotStart as error:
            raise Conflict(str(error)) from error
        return Response(story.summary(_run(run.uid)), status=202)


class RecordsView(APIView):
    """The records of a collection."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="list_records",
        summary="List the records of a collection, by key",
        parameters=[*PAGES],
        responses={200: serializers.RecordPage, **answers(400, 401, 403, 406, 503)},
    )
    def get(self, request: Request, collection: str) -> Response:
        check(request.query_params)
        pages = ByKey()
        page = pages.paginate_queryset(Record.objects.filter(collection=collection), request, view=self)
        return pages.get_paginated_response(serializers.StoredRecord(page or [], many=True).data)


class ByKey(CursorPagination):
    """Pages of records: they have no uid."""

    ordering = "key"


class RecordView(APIView):
    """One record."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="get_record",
        summary="A record",
        responses={200: serializers.StoredRecord, **answers(401, 403, 404, 406, 503)},
    )
    def get(self, request: Request, collection: str, key: str) -> Response:
        found = Record.objects.filter(collection=collection, key=key).first()
        if found is None:
            raise Http404(f'There is no record "{key}" in the collection "{collection}".')
        return Response(serializers.StoredRecord(found).data)


class CompleteView(APIView):
    """A step that waits for a person."""

    authentication_classes = []
    permission_classes = []
    schema = WithBody()

    @extend_schema(
        operation_id="complete_step",
        summary="Decide on a step that waits",
        description="The token, from the step's link, is all the permission that is needed. It works once.",
        auth=[],
        request=body(Decision),
        responses={200: serializers.Decided, **answers(400, 404, 406, 409, 413, 415, 422, 503)},
    )
    def post(self, request: Request, token: str) -> Response:
        question = decisions.question_of(token)
        if question is None:
            raise Http404("There is no such step: the token was not given out here, or its run is no longer kept.")
        decision = fields_of(request, Decision)
        if not decisions.decide(question, decision.outcome, decision.comment):
            question = decisions.question_of(token) or question
            raise Conflict(_NOT_OPEN[question.standing])
        return Response(_decided(question, decision))


_NOT_OPEN: Final = {
    Standing.OPEN: "The step was being decided at this moment; look again.",
    Standing.NOT_YET: "The step does not wait yet.",
    Standing.APPROVED: "The step was already approved.",
    Standing.REJECTED: "The step was already rejected.",
    Standing.TIMED_OUT: "The step has timed out.",
    Standing.CANCELLED: "The step was cancelled.",
    Standing.OVER: "The step is over: the run went on without it.",
}


def _decided(question: Question, decision: Decision) -> dict[str, str]:
    return {
        "run": str(question.run.uid),
        "step": question.step,
        "outcome": decision.outcome,
        "comment": decision.comment,
    }


_RUNS: Final = Run.objects.select_related("workflow", "version").defer(
    "input", "steps", "version__source", "version__definition"
)


def _run(uid: UUID) -> Run:
    try:
        return _RUNS.get(pk=uid)
    except Run.DoesNotExist as error:
        raise Http404(f"There is no run {uid}.") from error


def _workflow_names() -> list[str]:
    return list(Workflow.objects.order_by("name").values_list("name", flat=True))
