"""How operations are described: their bodies, their pages, their errors."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from pydantic import BaseModel
from rest_framework import serializers


class Fault(serializers.Serializer[None]):
    path = serializers.CharField(allow_blank=True)
    message = serializers.CharField()


class Problem(serializers.Serializer[None]):
    """An error (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    errors = Fault(many=True, required=False)  # type: ignore[assignment]  # a field, not the attribute


class WithBody(AutoSchema):
    """Operations that are nothing without a body: what is not described by a serializer is optional otherwise."""

    def _get_request_body(self, direction: str = "request") -> Any:
        body = super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        return body and {**body, "required": True}


PAGES: Final = (
    OpenApiParameter("cursor", str, description="From `next` or `previous`."),
    OpenApiParameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, description="How many a page."
    ),
)

_MEANING: Final = {
    400: "Not JSON, not an event, or a bad parameter",
    401: "No API key, or an unknown one",
    403: "The key lacks the scope, or the event claims another source",
    404: "There is no such thing",
    406: "No representation that the Accept header takes",
    409: "It is not in the state for that; the detail says in which it is",
    413: "Too large",
    415: "Unknown content type",
    422: "Fields that mean nothing, or data against its schema; nothing was done",
    429: "Over the source's rate limit; see Retry-After",
    503: "PostgreSQL cannot commit; see Retry-After",
}


def answers(*statuses: int) -> dict[Any, Any]:
    """The error answers of an operation."""
    return {
        (status, "application/problem+json"): OpenApiResponse(Problem, description=_MEANING[status])
        for status in statuses
    }


def body(model: type[BaseModel]) -> dict[str, Any]:
    """The body of an operation, whose fields are the model's."""
    return {"application/json": model.model_json_schema()}
