"""The API of runs: list, start, cancel, retry; decide on a step that waits; read records."""

from __future__ import annotations

from typing import Annotated, Final

from django.http import Http404
from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from project.api import Conflict
from project.body import fields_of
from project.openapi import WithBody, answers, body
from workflows import decisions, serializers
from workflows.decisions import MAX_COMMENT, Outcome, Question, Standing


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Decision(Body):
    outcome: Outcome
    comment: Annotated[str, Field(max_length=MAX_COMMENT)] = ""


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
