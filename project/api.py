"""What all HTTP APIs share: JSON in and out, problems (RFC 9457), and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions, pagination, parsers, renderers, serializers
from rest_framework.response import Response

log = structlog.get_logger(__name__)

RETRY_AFTER = 5  # seconds, when PostgreSQL is away


@dataclass(frozen=True)
class Fault:
    """One thing wrong with what was sent, and where: a dotted path, in a batch beginning with the index."""

    path: str
    message: str


class Problem(exceptions.APIException):
    """An answer that is an error, as `application/problem+json`. `errors` names the fields at fault."""

    status: ClassVar[int] = 500

    def __init__(self, detail: str, errors: Iterable[Fault] = (), *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.text = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.status_code = self.status


class BadRequest(Problem):
    status = 400


class Forbidden(Problem):
    status = 403


class TooLarge(Problem):
    status = 413


class UnsupportedType(Problem):
    status = 415


class Unprocessable(Problem):
    status = 422


class TooMany(Problem):
    status = 429


class JSONParser(parsers.BaseParser):
    """JSON by orjson: a third of the standard library's time."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return load(stream.read())


class JSONRenderer(renderers.JSONRenderer):
    """JSON by orjson."""

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None) -> bytes:
        if data is None:
            return b""
        return orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)


class ProblemRenderer(JSONRenderer):
    media_type = "application/problem+json"


def load(body: bytes) -> Any:
    """The JSON in `body`; a Problem naming line and column when it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error


def problem(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception raised under a view into its answer (REST framework's EXCEPTION_HANDLER)."""
    found = _as_problem(error)
    if found is None:
        return None
    headers = {"Retry-After": str(found.retry_after)} if found.retry_after else {}
    if found.status_code == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="carillon"'
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(found.status_code).phrase,
        "status": found.status_code,
        "detail": found.text,
    }
    if found.errors:
        body["errors"] = [asdict(fault) for fault in found.errors]
    response = Response(body, status=found.status_code, headers=headers, content_type=ProblemRenderer.media_type)
    # The answer is a problem whatever the request accepts (RFC 9457, 3).
    context["request"].accepted_renderer = ProblemRenderer()
    context["request"].accepted_media_type = ProblemRenderer.media_type
    return response


def _as_problem(error: Exception) -> Problem | None:
    match error:
        case Problem():
            return error
        case OperationalError() | InterfaceError():
            log.warning("database away", error=" ".join(str(error).split()))
            return _plain(503, "The database cannot commit just now; nothing was stored. Try again.", retry_after=RETRY_AFTER)
        case RequestDataTooBig():
            return TooLarge("The request is larger than BATCH_MAX_BYTES.")
        case Http404():
            return _plain(404, str(error) or "There is nothing at this address.")
        case PermissionDenied():
            return _plain(403, str(error) or "You may not do this.")
        case serializers.ValidationError():
            return BadRequest("Some fields are wrong.", _faults(error.detail))
        case exceptions.APIException():
            wait = getattr(error, "wait", None)
            return _plain(error.status_code, str(error.detail), retry_after=int(wait) if wait else None)
    return None


def _plain(status: int, detail: str, *, retry_after: int | None = None) -> Problem:
    found = Problem(detail, retry_after=retry_after)
    found.status_code = status
    return found


def _faults(detail: Any, path: str = "") -> list[Fault]:
    if isinstance(detail, Mapping):
        return [fault for key, value in detail.items() for fault in _faults(value, f"{path}.{key}" if path else str(key))]
    if isinstance(detail, list):
        return [fault for value in detail for fault in _faults(value, path)]
    return [Fault(path, str(detail))]


class CursorPagination(pagination.CursorPagination):
    """Newest first, 50 a page; `?limit=` up to 200. Costs the same on every page."""

    ordering = "-uid"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
