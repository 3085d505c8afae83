"""The shapes of the API of deliveries, for its documentation."""

from __future__ import annotations

from rest_framework import serializers

from notifications.models import DeliveryState, Priority


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


class DeliverySummary(serializers.Serializer[None]):
    """A delivery in a list."""

    uid = serializers.UUIDField()
    channel = serializers.CharField()
    kind = serializers.CharField()
    to = serializers.CharField(allow_blank=True)
    origin = serializers.UUIDField(allow_null=True, help_text="What caused it: the step of a run.")
    template = serializers.CharField(allow_blank=True)
    category = serializers.CharField(allow_blank=True)
    priority = serializers.ChoiceField(choices=Priority.choices)
    state = serializers.ChoiceField(choices=DeliveryState.choices)
    reason = serializers.CharField(allow_null=True)
    tries = serializers.IntegerField(help_text="How many attempts were made, one under way included.")
    instead_of = serializers.UUIDField(allow_null=True, help_text="The failed delivery that it stands in for.")
    due_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class DeliveryPage(serializers.Serializer[None]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = DeliverySummary(many=True)


class WholeDelivery(DeliverySummary):
    message = serializers.JSONField()
    attempts = AttemptTrace(many=True)


class Lost(serializers.Serializer[None]):
    """What a recovery would send again."""

    channel = serializers.CharField()
    since = serializers.DateTimeField()
    found = serializers.IntegerField()
    more = serializers.BooleanField(help_text="There are more than were counted.")


class Recovery(serializers.Serializer[None]):
    """Failed deliveries of a channel that are sent again."""

    id = serializers.IntegerField()
    channel = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(help_text="When it was asked for; what fails again later is not sent again.")
    found = serializers.IntegerField(help_text="How many there were, counted up to 10,000.")
    sent = serializers.IntegerField(help_text="How many are due again so far.")
    started_by = serializers.CharField(allow_blank=True)
    finished_at = serializers.DateTimeField(allow_null=True, help_text="Null: it goes on.")
