"""The events API: send, list, look up, trace; and webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, cast
from uuid import UUID

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema
from pydantic import BaseModel, ConfigDict, Field
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from events import hooks, ingest, replay, serializers
from events.authentication import key_in
from events.catalogue import Key
from events.cloudevents import BATCH, PLAIN, STRUCTURED, read
from events.models import Event, Original
from events.searching import EVENTS
from events.sources.base import Call
from events.trace import tell_replay, trace
from project import metrics
from project.api import BadRequest, Conflict, Fault, JSONRenderer, SearchPagination, Unprocessable
from project.authorization import HasScope, caller_of
from project.body import body_of, fields_of
from project.identifiers import EPOCH, first_uid_at
from project.openapi import PAGES, WithBody, answers, body
from project.parameters import asked
from project.scopes import Scope

ANY: Final = "*/*"
PARAMETERS: Final = {name: name for name in ("type", "source", "subject")}


class CloudEventRenderer(JSONRenderer):
    media_type = STRUCTURED


STORED = PolymorphicProxySerializer(
    "Stored", [serializers.StoredEvent, serializers.StoredBatch], resource_type_field_name=None, many=False
)


def _idempotency(description: str) -> OpenApiParameter:
    shape = {"type": "string", "maxLength": 200}
    return OpenApiParameter("Idempotency-Key", shape, OpenApiParameter.HEADER, description=description)


class EventsView(APIView):
    """Send events, and list them."""

    schema = WithBody()
    permission_classes = [HasScope]
    scopes = {"POST": Scope.EVENTS_WRITE, "GET": Scope.EVENTS_READ}

    @extend_schema(
        summary="Send events",
        description="Plain JSON (one event, or an array of up to 1,000), or CloudEvents 1.0 in structured, binary or "
        "batch mode. Answers 202 only after PostgreSQL has committed; 200 when the event, or all of the batch, was "
        "stored before.",
        operation_id="send_events",
        request={
            PLAIN: {"oneOf": [serializers.PLAIN_EVENT, serializers.batch_of(serializers.PLAIN_EVENT)]},
            STRUCTURED: serializers.CLOUD_EVENT,
            BATCH: serializers.batch_of(serializers.CLOUD_EVENT),
        },
        parameters=[_idempotency("Taken as the id where none is given.")],
        responses={202: STORED, 200: STORED, **answers(400, 401, 403, 406, 413, 415, 422, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        told, status = accept(request._request, cast(Key, request.auth))
        return Response(told, status=status)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The short way for events that are sent as most are, where REST framework's costs as much as storing them.

        What is unusual, or refused, goes its way all the same, so that there is one place for every other answer.
        """
        if request.method == "POST" and request.META.get("HTTP_ACCEPT", ANY) in (ANY, PLAIN):
            try:
                key = key_in(request.META.get("HTTP_AUTHORIZATION", ""))
                if key and Scope.EVENTS_WRITE in key.scopes:
                    told, status = accept(request, key)
                    return HttpResponse(
                        JSONRenderer().render(told), PLAIN, status=status, headers=self.default_response_headers
                    )
            except AuthenticationFailed:
                pass  # all that may authenticate are asked below
            except Exception as error:  # whatever it is, REST framework's handler words the answer
                self._refusal = error
        return super().dispatch(request, *args, **kwargs)

    def head(self, request: Request) -> Response:
        # Where there is none, Django gives each view its `get` under this name: a view that holds itself, and with it
        # the request and its body until the garbage collector comes by, some two thousand requests later.
        return self.get(request)

    _refusal: Exception | None = None  # met with on the short way

    def perform_authentication(self, request: Request) -> None:
        if self._refusal is not None:
            raise self._refusal
        super().perform_authentication(request)

    @extend_schema(
        operation_id="list_events",
        summary="List events, newest first",
        description="With words, or several filters, a page may be short or empty while `next` is not null: the search "
        "went as far as its time allowed, and `next` goes on from there.",
        parameters=[
            OpenApiParameter("type", str, description="A type; a trailing * stands for the rest."),
            OpenApiParameter("source", str, description="A source and what is below it: shop or /shop."),
            OpenApiParameter("subject", str),
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="Received at or after."),
            OpenApiParameter("until", OpenApiTypes.DATETIME, description="Received before."),
            OpenApiParameter(
                "q",
                str,
                description="A search as in the admin: `type:order.* subject:42 refund`. Words are looked for in the "
                "type, the id, the subject and the data.",
            ),
            *PAGES,
        ],
        responses={200: serializers.EventPage, **answers(400, 401, 403, 406, 503)},
    )
    def get(self, request: Request) -> Response:
        pages = SearchPagination()
        page = pages.search(
            Event.objects.defer("verdicts"), asked(EVENTS, request.query_params, PARAMETERS, received), request
        )
        return pages.get_paginated_response(serializers.EventSummary(page, many=True).data)


class HookView(APIView):
    """Webhooks of one source. Who calls is told by the signature, so the short way is the way of every call."""

    schema = WithBody()
    authentication_classes = []
    permission_classes = []

    @extend_schema(
        operation_id="call_hook",
        summary="Take a webhook",
        description="Whatever the source's adapter understands: GitHub, Stripe, Alertmanager … The signature is "
        "verified over the raw body; nothing is stored unless it holds. 200 where the delivery had been stored before, "
        "and for calls that bring no event (a ping, a handshake).",
        request={PLAIN: {}},
        responses={202: STORED, 200: OpenApiTypes.OBJECT, **answers(400, 401, 404, 413, 422, 429, 503)},
    )
    def post(self, request: Request, source: str) -> Response:
        raise self._refusal  # `dispatch` has answered every other call

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "POST":
            try:
                told, status = hooks.receive(kwargs["source"], _call(request))
                return HttpResponse(JSONRenderer().render(told), PLAIN, status=status)
            except Exception as error:  # whatever it is, REST framework's handler words the answer
                self._refusal = error
        return super().dispatch(request, *args, **kwargs)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        return JSONRenderer(), PLAIN  # senders accept many things, and read none

    _refusal: Exception


def _call(request: HttpRequest) -> Call:
    return Call(
        body=body_of(request),
        headers={name.lower(): value for name, value in request.headers.items()},
        query={name: str(value) for name, value in request.GET.items()},
        at=timezone.now(),
    )


class EventView(APIView):
    """One event."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}
    renderer_classes = [JSONRenderer, CloudEventRenderer]

    @extend_schema(
        operation_id="get_event",
        summary="An event, as a CloudEvent",
        responses={
            (200, PLAIN): serializers.CloudEvent,
            (200, STRUCTURED): serializers.CloudEvent,
            **answers(401, 403, 404, 406, 503),
        },
    )
    def get(self, request: Request, uid: UUID) -> Response:
        return Response(event_or_404(uid).envelope())


class OriginalView(APIView):
    """The webhook call that brought an event."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="get_original",
        summary="The webhook call that an event is a translation of",
        responses={200: serializers.Original, **answers(401, 403, 404, 406, 503)},
    )
    def get(self, request: Request, uid: UUID) -> Response:
        original = Original.objects.filter(event=uid).first()
        if original is None:
            raise Http404(f"There is no event {uid} that a webhook brought.")
        return Response(serializers.Original(original).data)


class TraceView(APIView):
    """What became of an event."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="trace_event",
        summary="What became of an event: verdicts, runs, steps, deliveries, attempts",
        responses={200: serializers.Trace, **answers(401, 403, 404, 406, 503)},
    )
    def get(self, request: Request, uid: UUID) -> Response:
        return Response(trace(event_or_404(uid)))


class Replay(BaseModel):
    """Who is to hear of the event again: all, or one subscription."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subscription: Annotated[str, Field(min_length=1, max_length=100, description="Left out: all.")] = ""


class ReplayView(APIView):
    """Hearing of an event again."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.RUNS_WRITE}

    @extend_schema(
        operation_id="replay_event",
        summary="Have all subscriptions, or one, hear of an event again",
        description="They are asked as they are now, and those that match start new runs. The workers do it: the trace "
        "tells what came of it. Asked for again with the same Idempotency-Key, it is the same replay, answered 200.",
        request=body(Replay),
        parameters=[_idempotency("Names this wish, which is granted once.")],
        responses={
            202: serializers.Replay,
            200: serializers.Replay,
            **answers(400, 401, 403, 404, 406, 409, 413, 415, 422, 503),
        },
    )
    def post(self, request: Request, uid: UUID) -> Response:
        event, key = event_or_404(uid), _idempotency_key(request._request)
        wanted = fields_of(request, Replay).subscription
        try:
            asked, new = replay.ask(event, by=caller_of(request), subscription=wanted, key=key)
        except replay.UnknownSubscription as error:
            raise Unprocessable(str(error), [Fault("subscription", str(error))]) from error
        except replay.CannotReplay as error:
            raise Conflict(str(error)) from error
        return Response(tell_replay(asked), status=202 if new else 200)


def event_or_404(uid: UUID) -> Event:
    try:
        return Event.objects.get(uid=uid)
    except Event.DoesNotExist as error:
        raise Http404(f"There is no event {uid}.") from error


def accept(request: HttpRequest, key: Key) -> tuple[dict[str, Any], int]:
    """Store the request's events, sent by whom the key stands for; returns the answer and its status."""
    try:
        events, batch = read(request.META.get("CONTENT_TYPE", ""), _headers(request), body_of(request))
        idempotency_key = _idempotency_key(request)
        if not batch:
            events[0].id = events[0].id or idempotency_key
        stored = ingest.accept(events, source=key.source, rate_limit=key.rate_limit, batch=batch)
    except APIException as error:
        metrics.count("carillon_events_refused_total", status=str(error.status_code))
        raise
    return ingest.told(stored, batch=batch)


def _headers(request: HttpRequest) -> Mapping[str, str]:
    if "HTTP_CE_SPECVERSION" not in request.META:  # only binary mode is in the headers
        return {}
    return {name.lower(): value for name, value in request.headers.items()}


def _idempotency_key(request: HttpRequest) -> str:
    key: str = request.META.get("HTTP_IDEMPOTENCY_KEY", "").strip().strip('"')
    if len(key) > 200:
        raise BadRequest(
            "The Idempotency-Key has more than 200 characters.", [Fault("Idempotency-Key", "at most 200 characters")]
        )
    return key


FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)
CLOCKS: Final = timedelta(minutes=5)  # by which a web process's, in the uid, may differ from PostgreSQL's


def received(since: datetime | None, until: datetime | None) -> Q:
    """The events received in this time. Their uids, which the web processes' clocks made, lead there, and nearly."""
    span = Q()
    if since:
        span &= Q(received_at__gte=since, pk__gte=first_uid_at(max(since, EPOCH + CLOCKS) - CLOCKS))
    if until:
        span &= Q(received_at__lt=until, pk__lt=first_uid_at(min(until, FAR) + CLOCKS))
    return span
