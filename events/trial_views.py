"""The API of trying out: a subscription on stored events, and an expression on an event that is sent along."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from pydantic import BeforeValidator, Field, WithJsonSchema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from events import serializers, stored
from events.dry_run import Draft, DryRun
from events.models import FILTER_VARIABLES, Event, Subscription
from events.review import PAGE
from project.api import Fault, Unprocessable
from project.authorization import HasScope
from project.body import Body, Moment, fields_of, not_null
from project.expressions import (
    MAX_SOURCE_BYTES,
    EvaluationError,
    Expression,
    ExpressionError,
    compile_expression,
    make_context,
)
from project.identifiers import first_uid_at
from project.names import unknown
from project.openapi import WithBody, answers, body
from project.reading import reading
from project.scopes import Scope
from project.timestamps import time_of

Json = Any

SECONDS: Final = 5.0  # that a dry run takes at most; it says where to go on
DAYS: Final = 7
MOST_COPIES: Final = 5_000_000  # about a second


class Period(Body):
    """Which stored events, from the newest on."""

    since: Moment = None
    before: Annotated[UUID | None, BeforeValidator(not_null), WithJsonSchema({"type": "string", "format": "uuid"})] = (
        None
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000


class Check(Body):
    expression: Annotated[str, Field(max_length=MAX_SOURCE_BYTES)]
    event: dict[str, Any] = Field(description="What the expression sees as `event`.")


class DryRunView(APIView):
    """What a subscription would do."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="dry_run_subscription",
        summary="Ask a subscription about stored events; nothing is run",
        description="By the code that routes, about events received since a time (in the last 7 days), newest first. A "
        "disabled subscription is asked as if it were enabled. When `next` is not null there may be more: send it as "
        "`before`, with the same `since`.",
        request=body(Period),
        responses={200: serializers.DryRun, **answers(400, 401, 403, 404, 406, 413, 415, 422, 503)},
    )
    def post(self, request: Request, name: str) -> Response:
        row = Subscription.objects.filter(name=name).first()
        if row is None:
            raise Http404(unknown("subscription", name, list(Subscription.objects.values_list("name", flat=True))))
        period = fields_of(request, Period)
        since = period.since or timezone.now() - timedelta(days=DAYS)
        draft = Draft.stored(row)
        told, following = _told(DryRun.as_if_enabled(draft, None), first_uid_at(since), period)
        return Response(
            {
                "subscription": row.name,
                "enabled": row.enabled and row.workflow.enabled,
                "since": time_of(since),
                "counts": Counter(each["verdict"] for each in told),
                "events": told,
                "next": following,
            }
        )


def _told(run: DryRun, since: UUID, period: Period) -> tuple[list[dict[str, Json]], UUID | None]:
    """The newest of the period's events with their verdicts, and behind which of them there may be more."""
    ends_at = time.monotonic() + SECONDS
    told: list[dict[str, Json]] = []
    at = period.before or stored.EVERYTHING
    while len(told) < period.limit and time.monotonic() < ends_at:
        most = min(PAGE, period.limit - len(told))
        with reading():
            events = stored.page(run.types, since=since, before=at, most=most)
        told += [_line(**run.tell(event)) for event in events]
        if len(events) < most:
            return told, None
        at = events[-1].uid
    return told, at


def _line(event: Event, verdict: str, reason: str) -> dict[str, Json]:
    return {
        "uid": event.uid,
        "id": event.event_id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "received_at": time_of(event.received_at),
        "verdict": verdict,
        **({"reason": reason} if reason else {}),
    }


class CheckView(APIView):
    """Whether an expression compiles, and its value."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.CONFIG_READ}
    schema = WithBody()

    @extend_schema(
        operation_id="check_expression",
        summary="Compile a CEL expression and evaluate it on an event",
        description="`verdict` and `reason` are what a subscription with this filter would say.",
        request=body(Check),
        responses={200: serializers.CheckedExpression, **answers(400, 401, 403, 406, 413, 415, 422, 503)},
    )
    def post(self, request: Request) -> Response:
        given = fields_of(request, Check)
        try:
            expression = compile_expression(given.expression, FILTER_VARIABLES)
        except ExpressionError as error:
            place = {"line": error.line, "column": error.column}
            return Response(_checked(verdict="error", error={"message": error.message, **place}))
        if _copies(expression, given.event) > MOST_COPIES:
            message = "has too much in it for the macros of this expression to be tried here"
            raise Unprocessable(f"The event {message}.", [Fault("event", message)])
        try:
            context = make_context(event=given.event)
            verdict = expression.explain(context)
            value = expression.evaluate(context)
        except EvaluationError as error:
            return Response(_checked(verdict="error", error={"message": error.reason, "line": None, "column": None}))
        return Response(_checked(value=value, verdict=verdict.outcome, reason=verdict.reason))


def _checked(*, verdict: str, value: Json = None, reason: str = "", error: Json = None) -> dict[str, Json]:
    return {"value": value, "verdict": verdict, "reason": reason, "error": error}


def _copies(expression: Expression, event: Json) -> int:
    """How many values the expression's macros copy at worst: `map` and `filter` copy for each item what they have.

    Others may look up the whole event for each item.
    """
    values = longest = 0
    waiting = [event]
    while waiting:
        value = waiting.pop()
        values += 1
        match value:
            case dict():
                waiting += value.values()
            case list():
                longest = max(longest, len(value))
                waiting += value
            case str() if "split" in expression.calls:
                longest = max(longest, len(value))
    values += longest
    if expression.calls & {"map", "filter"}:
        return longest * longest * values
    return longest * values if expression.calls & {"all", "exists", "exists_one"} else 0
