"""The shapes of the API of runs, for its documentation."""

from __future__ import annotations

from rest_framework import serializers

from notifications.serializers import DeliveryTrace


class StepTrace(serializers.Serializer[None]):
    uid = serializers.UUIDField()
    id = serializers.CharField()
    action = serializers.CharField()
    state = serializers.CharField()
    attempts = serializers.IntegerField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    input = serializers.JSONField(allow_null=True)
    output = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    deliveries = DeliveryTrace(many=True, required=False)


class RunTrace(serializers.Serializer[None]):
    uid = serializers.UUIDField()
    workflow = serializers.CharField()
    version = serializers.IntegerField()
    subscription = serializers.CharField(allow_blank=True)
    state = serializers.CharField()
    error = serializers.CharField(allow_null=True)
    due_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    steps = StepTrace(many=True)


class Decided(serializers.Serializer[None]):
    run = serializers.UUIDField()
    step = serializers.CharField()
    outcome = serializers.ChoiceField(choices=["approved", "rejected"])
    comment = serializers.CharField(allow_blank=True)
