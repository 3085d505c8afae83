"""The shapes of the events API, for its documentation."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

from events import models
from events.models import Event
from workflows.serializers import RunTrace


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a caller says who it is."""

    target_class = "events.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer <api key>"}


_DATA = {"description": "What happened: any JSON; checked against the type's schema."}
_TEXT = {"type": "string", "minLength": 1}
_TIME = {"type": "string", "format": "date-time"}
_OPTIONAL = {
    "subject": {"type": "string", "maxLength": 500, "nullable": True},
    "time": {**_TIME, "nullable": True},
    "dataschema": {"type": "string", "maxLength": 500, "nullable": True, "description": "Picks a schema version."},
    "data": _DATA,
}

# What is sent is read by events/cloudevents.py, not by a serializer; this is its description.
PLAIN_EVENT: dict[str, Any] = {
    "title": "Plain event",
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {**_TEXT, "maxLength": 200, "description": "The name of an event type."},
        "id": {
            "type": "string",
            "maxLength": 200,
            "nullable": True,
            "description": "The producer's id: an event counts once per source and id. Made up where it is missing.",
        },
        "source": {
            "type": "string",
            "maxLength": 500,
            "nullable": True,
            "description": "The API key's source, or below it.",
        },
        **_OPTIONAL,
    },
}
CLOUD_EVENT: dict[str, Any] = {
    "title": "CloudEvent 1.0",
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "additionalProperties": True,
    "properties": {
        "specversion": {"type": "string", "enum": ["1.0"]},
        "id": {**_TEXT, "maxLength": 200},
        "source": {**_TEXT, "maxLength": 500, "description": "The API key's source, or below it."},
        "type": {**_TEXT, "maxLength": 200, "description": "The name of an event type."},
        "datacontenttype": {"type": "string", "nullable": True},
        "data_base64": {"type": "string", "format": "byte", "description": "Instead of data, when that is binary."},
        **_OPTIONAL,
    },
    "not": {"required": ["data", "data_base64"]},
}


def batch_of(event: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": event, "minItems": 1, "maxItems": 1000}


class CloudEvent(serializers.Serializer[None]):
    """An event as CloudEvents 1.0 JSON; extension attributes stand beside these."""

    specversion = serializers.ChoiceField(choices=["1.0"])
    id = serializers.CharField(max_length=200)
    source = serializers.CharField(max_length=500)  # type: ignore[assignment]  # a field, not the attribute
    type = serializers.CharField(max_length=200)
    subject = serializers.CharField(max_length=500, required=False)
    time = serializers.DateTimeField(required=False)
    datacontenttype = serializers.CharField(required=False)
    dataschema = serializers.CharField(max_length=500, required=False)
    data = serializers.JSONField(required=False)  # type: ignore[assignment]  # a field, not the attribute


class StoredEvent(serializers.Serializer[None]):
    uid = serializers.UUIDField()
    id = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # a field, not the attribute
    type = serializers.CharField()
    duplicate = serializers.BooleanField()


class StoredBatch(serializers.Serializer[None]):
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    events = StoredEvent(many=True)


class Original(serializers.Serializer[models.Original]):
    """A webhook call as it came in."""

    headers = serializers.DictField(child=serializers.CharField())
    body = serializers.CharField()


class EventSummary(serializers.ModelSerializer[Event]):
    """An event in a list."""

    id = serializers.CharField(source="event_id")

    class Meta:
        model = Event
        fields: ClassVar = ["uid", "id", "source", "type", "subject", "time", "received_at", "routed_at", "data"]


class EventPage(serializers.Serializer[None]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = EventSummary(many=True)


VERDICTS: Final = ("matched", "filtered", "error", "disabled")


class SubscriptionVerdict(serializers.Serializer[None]):
    name = serializers.CharField()
    verdict = serializers.ChoiceField(choices=VERDICTS)
    reason = serializers.CharField(required=False)


class Replay(serializers.Serializer[None]):
    """An event heard again."""

    number = serializers.IntegerField(help_text="The event's first replay is 1; the runs that it starts have it, too.")
    subscription = serializers.CharField(allow_null=True, help_text="The one that is asked; null: all.")
    by = serializers.CharField()
    made_at = serializers.DateTimeField()
    routed_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    subscriptions = SubscriptionVerdict(many=True)


class Trace(serializers.Serializer[None]):
    event = CloudEvent()
    received_at = serializers.DateTimeField()
    routed_at = serializers.DateTimeField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    subscriptions = SubscriptionVerdict(many=True, help_text="What they said the first time.")
    replays = Replay(many=True)
    runs = RunTrace(many=True)


class DryRunEvent(serializers.Serializer[None]):
    """A stored event, and what the subscription says to it."""

    uid = serializers.UUIDField()
    id = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # a field, not the attribute
    type = serializers.CharField()
    subject = serializers.CharField(allow_blank=True)
    received_at = serializers.DateTimeField()
    verdict = serializers.ChoiceField(choices=VERDICTS)
    reason = serializers.CharField(required=False)


class DryRun(serializers.Serializer[None]):
    subscription = serializers.CharField()
    enabled = serializers.BooleanField(help_text="Whether it, and its workflow, are.")
    since = serializers.DateTimeField()
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="Events of this answer by verdict.")
    events = DryRunEvent(many=True)
    next = serializers.UUIDField(allow_null=True)


class ExpressionFault(serializers.Serializer[None]):
    message = serializers.CharField()
    line = serializers.IntegerField(allow_null=True, help_text="Null when it compiles and has no value.")
    column = serializers.IntegerField(allow_null=True)


class CheckedExpression(serializers.Serializer[None]):
    value = serializers.JSONField(allow_null=True)
    verdict = serializers.ChoiceField(choices=VERDICTS)
    reason = serializers.CharField(allow_blank=True)
    error = ExpressionFault(allow_null=True)
