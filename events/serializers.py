"""The shapes of the events API, for its documentation."""

from __future__ import annotations

from typing import ClassVar

from rest_framework import serializers

from events.models import Event


class IncomingEvent(serializers.Serializer[None]):
    """An event in plain JSON."""

    type = serializers.CharField(max_length=200, help_text="The name of an event type.")
    data = serializers.JSONField(required=False, help_text="What happened; checked against the type's schema.")
    id = serializers.CharField(
        max_length=200, required=False, help_text="The producer's id; an event counts once per source and id."
    )
    subject = serializers.CharField(max_length=500, required=False, allow_null=True)
    time = serializers.DateTimeField(required=False, allow_null=True)
    source = serializers.CharField(max_length=500, required=False, help_text="The key's source, or below it.")
    dataschema = serializers.CharField(max_length=500, required=False, help_text="Picks a version of the schema.")


class CloudEvent(serializers.Serializer[None]):
    """An event as CloudEvents 1.0 JSON; extension attributes stand beside these."""

    specversion = serializers.ChoiceField(choices=["1.0"])
    id = serializers.CharField(max_length=200)
    source = serializers.CharField(max_length=500)
    type = serializers.CharField(max_length=200)
    subject = serializers.CharField(max_length=500, required=False)
    time = serializers.DateTimeField(required=False)
    datacontenttype = serializers.CharField(required=False)
    dataschema = serializers.CharField(max_length=500, required=False)
    data = serializers.JSONField(required=False)


class StoredEvent(serializers.Serializer[None]):
    uid = serializers.UUIDField()
    id = serializers.CharField()
    source = serializers.CharField()
    type = serializers.CharField()
    duplicate = serializers.BooleanField()


class StoredBatch(serializers.Serializer[None]):
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    events = StoredEvent(many=True)


class Fault(serializers.Serializer[None]):
    path = serializers.CharField()
    message = serializers.CharField()


class Problem(serializers.Serializer[None]):
    """An error (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    errors = Fault(many=True, required=False)


class EventSummary(serializers.ModelSerializer[Event]):
    """An event in a list."""

    id = serializers.CharField(source="event_id")

    class Meta:
        model = Event
        fields: ClassVar = ["uid", "id", "source", "type", "subject", "time", "received_at", "routed_at", "data"]


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


class SubscriptionVerdict(serializers.Serializer[None]):
    name = serializers.CharField()
    verdict = serializers.ChoiceField(choices=["matched", "filtered", "error", "disabled"])
    reason = serializers.CharField(required=False)


class Trace(serializers.Serializer[None]):
    event = CloudEvent()
    received_at = serializers.DateTimeField()
    routed_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    subscriptions = SubscriptionVerdict(many=True)
    runs = RunTrace(many=True)
