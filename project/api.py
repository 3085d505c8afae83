"""What all HTTP APIs share: JSON in and out, problems (RFC 9457), and pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, ClassVar, Final
from uuid import UUID

import orjson
import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, ValidationError
from django.db import InterfaceError, InternalError, OperationalError
from django.db.models import QuerySet
from django.http import Http404
from rest_framework import exceptions, pagination, parsers, renderers, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from project.faults import Fault as Fault  # models know it too, and must not import views
from project.reading import Busy, reading
from project.scopes import Scope
from project.searching import Asked, page
from project.tokens import hide

log = structlog.get_logger(__name__)

RETRY_AFTER: Final = 5  # seconds, when PostgreSQL is away
MAX_DEPTH: Final = 100  # orjson writes 254 levels, and what is sent is later part of larger documents
_LONG_INTEGER: Final = re.compile(rb"(?<![0-9.])[0-9]{19}")  # perhaps: it may also stand in a string


class Problem(exceptions.APIException):
    """An answer that is an error, as `application/problem+json`. `errors` names the fields at fault."""

    status: ClassVar[int] = 500

    challenge: str = 'Bearer realm="carillon"'  # of a 401: how to say who one is

    def __init__(self, detail: str, errors: Iterable[Fault] = (), *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.text = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.status_code = self.status


class BadRequest(Problem):
    status = 400


class Unauthorized(Problem):
    status = 401


class Forbidden(Problem):
    status = 403


class Conflict(Problem):
    status = 409


class TooLarge(Problem):
    status = 413


class UnsupportedType(Problem):
    status = 415


class Unprocessable(Problem):
    status = 422


class TooMany(Problem):
    status = 429


class Unavailable(Problem):
    status = 503


class JSONParser(parsers.BaseParser):
    """JSON by orjson: a third of the standard library's time."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return load(stream.read())


class JSONRenderer(renderers.JSONRenderer):
    """JSON by orjson."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        if data is None:
            return b""
        written = orjson.dumps(data, default=str, option=orjson.OPT_NON_STR_KEYS)
        # Who may only read must not find a link that decides on an approval in what was sent.
        return written if renderer_context is None or _may_see(renderer_context) else hide(written)


def _may_see(context: Mapping[str, Any]) -> bool:
    # A problem has no such link; and who asked may be what could not be found out, as when PostgreSQL is away.
    return context["response"].exception or Scope.RUNS_WRITE in getattr(context["request"].auth, "scopes", ())


class ProblemRenderer(JSONRenderer):
    media_type = "application/problem+json"


def load(body: bytes) -> Any:
    """The JSON in `body`. Raises BadRequest when it is none, with line and column, or could not be kept as it is."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(MAX_DEPTH, value):
        raise BadRequest(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    if _LONG_INTEGER.search(body):
        json.loads(body, parse_int=_refuse_long_integer)
    return value


def _deeper_than(depth: int, value: Any) -> bool:
    level = [value]
    for _ in range(depth + 1):
        level = [
            child
            for part in level
            if isinstance(part, list | dict)
            for child in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return False
    return True


def _refuse_long_integer(digits: str) -> None:
    if not -(1 << 63) <= int(digits) < 1 << 64:
        raise BadRequest(f"The integer {digits} needs more than 64 bits and would be rounded; send it as a string.")


def holds_nul(value: Any) -> bool:
    """Whether a JSON value has a NUL character in any of its strings."""
    return value not in (None, {}, "") and b"\\u0000" in orjson.dumps(value) and _holds_nul(value)


def _holds_nul(value: Any) -> bool:  # the six characters may also stand in a text as they are, after a backslash
    match value:
        case str():
            return "\0" in value
        case list():
            return any(map(_holds_nul, value))
        case dict():
            return any(_holds_nul(part) for pair in value.items() for part in pair)
    return False


def problem(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception raised under a view into its answer (REST framework's EXCEPTION_HANDLER)."""
    found = _as_problem(error)
    if found is None:
        return None
    headers = {"Retry-After": str(found.retry_after)} if found.retry_after else {}
    if found.status_code == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = found.challenge
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
        case Busy():
            return Unavailable(
                "PostgreSQL took too long for this, so it was ended. Narrow it, above all in time; or try again later.",
                retry_after=RETRY_AFTER,
            )
        case OperationalError() | InterfaceError() | InternalError():  # the last: it is a standby that only reads
            log.warning("database away", error=" ".join(str(error).split()))
            return _plain(
                503,
                "The database is away just now. Try again; an event counts once under its id.",
                retry_after=RETRY_AFTER,
            )
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
        return [
            fault for key, value in detail.items() for fault in _faults(value, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(detail, list):
        return [fault for value in detail for fault in _faults(value, path)]
    return [Fault(path, str(detail))]


class CursorPagination(pagination.CursorPagination):
    """Newest first, 50 a page; `?limit=` up to 200. Costs the same on every page."""

    ordering = "-uid"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        given = request.query_params.get(self.page_size_query_param, str(self.page_size))
        if not (given.isascii() and given.isdecimal() and len(given) < 9 and 1 <= int(given) <= self.max_page_size):
            raise BadRequest(
                "limit is not a page size.", [Fault("limit", f"must be a number from 1 to {self.max_page_size}")]
            )
        return int(given)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (exceptions.NotFound, ValidationError, ValueError) as error:
            raise _foreign_cursor() from error


def _foreign_cursor() -> BadRequest:
    """It is not what we gave out, or of another list."""
    return BadRequest("cursor is not from a page.", [Fault("cursor", "must be taken from `next` or `previous`")])


class SearchPagination(CursorPagination):
    """Pages of what a search finds: like the others where one index has it all.

    Where rows are looked at one by one, a page may be short, or empty, while `next` says that there is more to look at,
    and there is no way back.
    """

    _walked = False
    _older: str | None = None

    def search(self, rows: QuerySet[Any], asked: Asked, request: Request) -> list[Any]:
        """Raises BadRequest, and Busy."""
        if not asked.checks and all(len(condition.ways) == 1 for condition in asked.conditions):
            with reading():
                return self.paginate_queryset(rows.filter(asked.where), request) or []
        self._walked, self.has_previous = True, False
        self.base_url = request.build_absolute_uri()
        most = self.get_page_size(request)
        cursor: Any  # its position is text, whatever the stubs say
        try:
            cursor = self.decode_cursor(request)
            before = UUID(cursor.position) if cursor else None
        except (exceptions.NotFound, TypeError, ValueError) as error:
            raise _foreign_cursor() from error
        found = page(rows, asked, before=before, most=most)
        if found.older:
            position: Any = str(found.older)
            self._older = self.encode_cursor(pagination.Cursor(offset=0, reverse=False, position=position))
        return list(found.rows)

    def get_next_link(self) -> str | None:
        return self._older if self._walked else super().get_next_link()
