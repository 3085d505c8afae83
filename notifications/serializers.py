"""The shapes of deliveries, for the documentation of the API."""

from __future__ import annotations

from rest_framework import serializers


class AttemptTrace(serializers.Serializer[None]):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    outcome = serializers.ChoiceField(choices=["delivered", "retry", "failed"])
    status = serializers.IntegerField(allow_null=True)
    response = serializers.CharField(allow_blank=True)
    ms = serializers.IntegerField()


class DeliveryTrace(serializers.Serializer[None]):
    uid = serializers.UUIDField()
    channel = serializers.CharField()
    kind = serializers.CharField()
    to = serializers.CharField(allow_blank=True)
    state = serializers.CharField()
    reason = serializers.CharField(allow_null=True)
    due_at = serializers.DateTimeField(allow_null=True)
    message = serializers.JSONField()
    attempts = AttemptTrace(many=True)
