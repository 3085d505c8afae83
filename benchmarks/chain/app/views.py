"""The DRF view of the hand-rolled service."""

import uuid

from django.conf import settings
from django.db import IntegrityError
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.chain.app.models import Event
from benchmarks.chain.app.tasks import route


class OrderPaid(serializers.Serializer):
    order_id = serializers.CharField()
    amount = serializers.FloatField()
    customer = serializers.CharField()


class IncomingEvent(serializers.Serializer):
    type = serializers.ChoiceField(choices=["order.paid"])
    id = serializers.CharField(required=False)
    data = OrderPaid()


class EventsView(APIView):
    authentication_classes = []

    def post(self, request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {settings.API_KEY}":
            raise AuthenticationFailed
        given = IncomingEvent(data=request.data)
        given.is_valid(raise_exception=True)
        event_id = given.validated_data.get("id") or str(uuid.uuid4())
        try:
            event = Event.objects.create(
                source="/shop",
                event_id=event_id,
                type=given.validated_data["type"],
                data=given.validated_data["data"],
            )
        except IntegrityError:
            return Response({"id": event_id, "duplicate": True})
        route.delay(event.pk)
        return Response({"id": event_id, "duplicate": False}, status=202)
