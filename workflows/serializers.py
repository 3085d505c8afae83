"""The shapes of the API of runs, for its documentation."""

from __future__ import annotations

from typing import ClassVar

from drf_spectacular.helpers import lazy_serializer
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from notifications.serializers import DeliveryTrace
from workflows.models import Record, RunState, StepState


class RunSummary(serializers.Serializer[None]):
    """A run in a list."""

    uid = serializers.UUIDField()
    workflow = serializers.CharField()
    version = serializers.IntegerField()
    subscription = serializers.CharField(allow_blank=True, help_text="Who started it: mostly a subscription.")
    replay = serializers.IntegerField(help_text="Which replay of the event started it; 0: none, it was the first time.")
    origin = serializers.UUIDField(allow_null=True, help_text="The event, or the step of another run.")
    parent = serializers.UUIDField(  # type: ignore[assignment]  # a field, not the attribute
        allow_null=True, help_text="The run whose step started it."
    )
    state = serializers.ChoiceField(choices=RunState.choices)
    queued = serializers.BooleanField(help_text="It has not begun: others with its concurrency key are at work.")
    round = serializers.IntegerField(help_text="How often it was retried.")
    error = serializers.CharField(allow_null=True)
    due_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class RunPage(serializers.Serializer[None]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = RunSummary(many=True)


@extend_schema_field(lazy_serializer("workflows.serializers.RunTrace")(many=True))  # which has steps that have runs
class Children(serializers.ListField):
    """The runs that a step started."""


class Turn(serializers.Serializer[None]):
    """A moment at which a step did not come to its end."""

    at = serializers.DateTimeField()
    to = serializers.ChoiceField(
        choices=["pending", "waiting"],
        help_text="An attempt had failed and another was to follow; or it began to wait.",
    )
    until = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_blank=True)


class StepTrace(serializers.Serializer[None]):
    uid = serializers.UUIDField()
    id = serializers.CharField()
    item = serializers.IntegerField(allow_null=True, help_text="Its place in the list of `for_each`.")
    round = serializers.IntegerField()
    action = serializers.CharField()
    state = serializers.ChoiceField(choices=StepState.choices)
    attempts = serializers.IntegerField()
    due_at = serializers.DateTimeField(allow_null=True, help_text="Its next attempt, or the end of its wait.")
    started_at = serializers.DateTimeField(allow_null=True)
    turns = Turn(many=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    input = serializers.JSONField(allow_null=True)
    output = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    deliveries = DeliveryTrace(many=True, required=False)
    runs = Children(required=False, help_text="What it started.")


class RunTrace(RunSummary):
    steps = StepTrace(many=True)


class Cancelled(serializers.Serializer[None]):
    cancelled = serializers.IntegerField()


class StoredRecord(serializers.ModelSerializer[Record]):
    """A record."""

    class Meta:
        model = Record
        fields: ClassVar = ["collection", "key", "value", "version", "updated_at"]


class RecordPage(serializers.Serializer[None]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = StoredRecord(many=True)


class Decided(serializers.Serializer[None]):
    run = serializers.UUIDField()
    step = serializers.CharField()
    outcome = serializers.ChoiceField(choices=["approved", "rejected"])
    comment = serializers.CharField(allow_blank=True)
