"""The body of a request to the API: its bytes, and the fields that it is made of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeVar

from django.conf import settings
from django.http import HttpRequest
from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from rest_framework.request import Request

from project.api import Fault, TooLarge, Unprocessable, UnsupportedType, holds_nul, load
from project.fields import complaints, dotted
from project.timestamps import RFC3339, rfc3339

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """The fields that a request's body may have, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def not_null(given: object) -> object:
    """For a BeforeValidator, of a field that may be left out."""
    if given is None:
        raise ValueError("may be left out, but not be null")
    return given


def _moment(given: object) -> datetime:
    found = rfc3339(given) if isinstance(given, str) else None
    if found is None:
        raise ValueError(f"must be {RFC3339}")
    return found


_IN_JSON: Final = WithJsonSchema({"type": "string", "format": "date-time"})
Time = Annotated[datetime, BeforeValidator(_moment), _IN_JSON]
"""A time that has to be there."""

Moment = Annotated[datetime | None, BeforeValidator(_moment), _IN_JSON]
"""A time that may be left out."""


def body_of(request: HttpRequest) -> bytes:
    """The request's body, refused before it is read when it says that it is too large."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdecimal() and int(length) > settings.BATCH_MAX_BYTES:
        raise TooLarge(f"The request has {int(length):,} bytes; at most {settings.BATCH_MAX_BYTES:,}.")
    if request.META.get("HTTP_TRANSFER_ENCODING") and request.META.get("wsgi.input_terminated"):
        # It comes in chunks and does not tell its length, so Django reads nothing; the server knows where it ends.
        body: bytes = request.META["wsgi.input"].read(settings.BATCH_MAX_BYTES + 1)
        if len(body) > settings.BATCH_MAX_BYTES:
            raise TooLarge(f"The request has more than {settings.BATCH_MAX_BYTES:,} bytes.")
        return body
    return request.body


def fields_of(request: Request, model: type[M]) -> M:
    """What the request's JSON says; a request without a body says nothing. Bounded like an event.

    Raises BadRequest, TooLarge, UnsupportedType, or Unprocessable with every field at fault.
    """
    body = body_of(request._request)
    if len(body) > settings.EVENT_MAX_BYTES:
        raise TooLarge(f"The request has {len(body):,} bytes; at most {settings.EVENT_MAX_BYTES:,}.")
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        raise UnsupportedType(f"The content type is {media_type or 'missing'}; send application/json.")
    given = load(body) if body else {}
    wrong = [Fault(dotted(path), message) for path, message in complaints(model, given)]
    if not wrong and holds_nul(given):
        wrong = [Fault(name, "contains a NUL character") for name in given if holds_nul(given[name])]
    if wrong:
        raise Unprocessable("; ".join(f"{f.path}: {f.message}".removeprefix(": ") for f in wrong[:3]), wrong)
    return model.model_validate(given)
