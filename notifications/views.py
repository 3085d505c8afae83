"""The API of deliveries: list, get, send again one, or all that failed in a channel since a time."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from notifications import delivery, recovery, serializers, story
from notifications.models import Channel, Delivery, Recovery
from notifications.searching import DELIVERIES, STATES
from project import bounded
from project.api import Conflict, Fault, SearchPagination, Unprocessable
from project.authorization import HasScope, caller_of
from project.body import Body, Time, fields_of
from project.doorbell import ring
from project.names import unknown
from project.openapi import PAGES, WithBody, answers, body
from project.parameters import asked
from project.scopes import Scope
from project.timestamps import time_of

PARAMETERS: Final = {name: name for name in ("channel", "state", "event", "to")}


class Recover(Body):
    """What to send again."""

    channel: str
    since: Time
    dry_run: bool = False


class DeliveriesView(APIView):
    """Deliveries."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="list_deliveries",
        summary="List deliveries, newest first",
        description="With words, or several filters, a page may be short or empty while `next` is not null: the search "
        "went as far as its time allowed, and `next` goes on from there.",
        parameters=[
            OpenApiParameter("channel", str, description="The channel's name."),
            OpenApiParameter("state", str, enum=list(STATES)),
            OpenApiParameter("event", OpenApiTypes.UUID, description="The event whose runs caused them."),
            OpenApiParameter("to", str, description="The address, exactly."),
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="Made at or after."),
            OpenApiParameter("until", OpenApiTypes.DATETIME, description="Made before."),
            OpenApiParameter("q", str, description="A search as in the admin: `recipient:ada state:failed timeout`."),
            *PAGES,
        ],
        responses={200: serializers.DeliveryPage, **answers(400, 401, 403, 406, 503)},
    )
    def get(self, request: Request) -> Response:
        pages = SearchPagination()
        page = pages.search(_ROWS.defer("message"), asked(DELIVERIES, request.query_params, PARAMETERS), request)
        return pages.get_paginated_response([story.summary(row) for row in page])


class DeliveryView(APIView):
    """One delivery."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="get_delivery",
        summary="A delivery with its message and its attempts",
        responses={200: serializers.WholeDelivery, **answers(401, 403, 404, 406, 503)},
    )
    def get(self, request: Request, uid: UUID) -> Response:
        return Response(story.whole(_delivery(uid)))


class RetryView(APIView):
    """Sending one again."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.RUNS_WRITE}

    @extend_schema(
        operation_id="retry_delivery",
        summary="Send a failed or cancelled delivery again, and one that waits at once",
        description="With a fresh schedule of retries, and the same uid.",
        request=None,
        responses={202: serializers.WholeDelivery, **answers(401, 403, 404, 406, 409, 503)},
    )
    def post(self, request: Request, uid: UUID) -> Response:
        row = _delivery(uid)
        if not delivery.retry(Delivery.objects.filter(pk=uid)):
            row = _delivery(uid)
            raise Conflict(
                "An attempt is under way; wait for what comes of it."
                if row.leased
                else f"The delivery is {row.state}; only one that failed, was cancelled or waits can be sent again."
            )
        ring("notifications.deliver", caller_of(request))
        return Response(story.whole(_delivery(uid)), status=202)


class RecoverView(APIView):
    """Sending again what failed in a channel."""

    permission_classes = [HasScope]
    scopes = {"POST": Scope.RUNS_WRITE}
    schema = WithBody()

    @extend_schema(
        operation_id="recover_deliveries",
        summary="Send again all that failed in a channel since a time",
        description="The workers do it, a thousand in a transaction: the recovery tells how far that has come. What "
        "fails once more is not sent a third time. With `dry_run` it is only counted, up to 10,000.",
        request=body(Recover),
        responses={
            202: serializers.Recovery,
            200: serializers.Lost,
            **answers(400, 401, 403, 406, 413, 415, 422, 503),
        },
    )
    def post(self, request: Request) -> Response:
        wanted = fields_of(request, Recover)
        channel = Channel.objects.filter(name=wanted.channel).first()
        if channel is None:
            message = unknown("channel", wanted.channel, list(Channel.objects.values_list("name", flat=True)))
            raise Unprocessable(message, [Fault("channel", message)])
        if wanted.dry_run:
            found = bounded.count(recovery.lost(channel, wanted.since), recovery.COUNTED)
            told = {"channel": channel.name, "since": time_of(wanted.since), "found": found.n, "more": found.more}
            return Response(told)
        begun = recovery.recover(channel, wanted.since, caller_of(request))
        return Response(story.recovery(begun), status=202)


class RecoveryView(APIView):
    """How far a recovery has come."""

    permission_classes = [HasScope]
    scopes = {"GET": Scope.EVENTS_READ}

    @extend_schema(
        operation_id="get_recovery",
        summary="How far a recovery has come",
        responses={200: serializers.Recovery, **answers(401, 403, 404, 406, 503)},
    )
    def get(self, request: Request, number: int) -> Response:
        try:
            return Response(story.recovery(Recovery.objects.select_related("channel").get(pk=number)))
        except Recovery.DoesNotExist as error:
            raise Http404(f"There is no recovery {number}.") from error


_ROWS: Final = Delivery.objects.select_related("channel")


def _delivery(uid: UUID) -> Delivery:
    try:
        return _ROWS.get(pk=uid)
    except Delivery.DoesNotExist as error:
        raise Http404(f"There is no delivery {uid}.") from error
