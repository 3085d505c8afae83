"""`http.request`: call any HTTP API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urljoin

import aiohttp
import orjson
from pydantic import AfterValidator, BeforeValidator, Field
from yarl import URL

from project import http
from project.expressions import is_dynamic
from project.http import Reply
from project.retry import RetryPolicy, parse_retry_after
from project.secrets import UnknownVariable, references, resolve_environment
from project.transport import Transport
from workflows.actions import Call, NetworkAction, StepError, action
from workflows.actions.base import Json, Rehearsal

LONGEST_BODY: Final = 256 * 1024  # bytes of an answer that are kept
LONGEST_TOLD: Final = 300  # characters of an answer that an error tells
MOST_REDIRECTS: Final = 5
RETRIED: Final = frozenset({408, 425, 429})
"""Answers below 500 that mean "not now"."""

TOLD: Final = ("content-type", "location", "etag", "last-modified", "link", "retry-after", "x-request-id")
"""The headers of an answer that become part of the output."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")  # a token of RFC 9110, 5.6.2
_OUR_HEADERS = {"host", "content-length", "transfer-encoding", "connection"}
_STATUSES = re.compile(r"([1-5])xx|([1-5]\d\d)(?:-([1-5]\d\d))?")


class Busy(StepError):
    """Not now: another try is worth while, no earlier than after `retry_after`."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.match(name):
            raise ValueError(f'"{name}" is not a header name')
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"{name} is set by Carillon itself")
        if not value.isprintable():
            raise ValueError(f"the value of {name} must be one line of printable characters")
    return headers


def _statuses(value: Any) -> Any:
    """Each status or range as (first, last): 404, "200-204", "2xx"."""
    given = value if isinstance(value, list | tuple) else [value]
    return [_range(str(item)) if isinstance(item, str | int) else item for item in given]


def _range(text: str) -> tuple[int, int]:
    match = _STATUSES.fullmatch(text)
    if not match:
        raise ValueError(f'"{text}" is no status; write for example 200, 200-204 or 2xx')
    if match[1]:
        return int(match[1]) * 100, int(match[1]) * 100 + 99
    return int(match[2]), int(match[3] or match[2])


@action("http.request")
class Request(NetworkAction):
    """One HTTP request. Output: {"status", "headers", "body", "ms"}; the body is parsed when it is JSON."""

    default_retry: ClassVar[RetryPolicy] = RetryPolicy(attempts=5, delay=timedelta(seconds=5), factor=3)

    method: Annotated[
        Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
    ] = "GET"
    url: Annotated[str, Field(min_length=1)]
    query: dict[str, str | int | float | bool | list[str | int | float | bool]] = {}
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}
    body: Json = None
    expect: Annotated[list[tuple[int, int]], BeforeValidator(_statuses), Field(min_length=1)] = [(200, 299)]
    redirects: bool = False

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        for field in ("url", "headers", "query", "body"):
            try:
                resolve_environment(given.get(field))
            except UnknownVariable as error:
                yield field, str(error)
                return
        if not is_dynamic(given["url"]):
            try:
                http.check_url(resolve_environment(given["url"]))
            except ValueError as error:
                yield "url", str(error)

    def rehearse(self, call: Call) -> Rehearsal:
        if not references(self.url):  # what stands for a variable is known to the sender alone
            try:
                http.check_url(self.url)
            except ValueError as error:
                raise StepError(str(error), permanent=True) from error
        output = {"status": self.expect[0][0], "headers": {}, "body": None, "ms": 0}
        return Rehearsal(f"send {self.method} {self.url}", output, "example")

    async def perform(self, call: Call, transport: Transport) -> Json:
        reply = await self._reply(call, transport)
        if any(first <= reply.status <= last for first, last in self.expect):
            return {
                "status": reply.status,
                "headers": {name: reply.headers[name] for name in TOLD if name in reply.headers},
                "body": _parsed(reply),
                "ms": reply.ms,
            }
        told = f"answered {reply.status}: {' '.join(reply.text[:LONGEST_TOLD].split())}"
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status in RETRIED:
            raise Busy(told, retry_after=parse_retry_after(reply.headers.get("Retry-After"), now=datetime.now(UTC)))
        if HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST:
            told = (
                f"answered {reply.status}, a redirect to {reply.headers.get('Location')}; `redirects: true` follows it"
            )
        raise StepError(told, permanent=True)

    async def _reply(self, call: Call, transport: Transport) -> Reply:
        headers, body = self._message(call)
        method, url = self.method, URL(self.url).update_query(_query(self.query)) if self.query else URL(self.url)
        for _ in range(MOST_REDIRECTS + 1):
            reply = await _send(transport, method, url, headers, body)
            if not self.redirects or "Location" not in reply.headers or not 300 < reply.status < 400:
                return reply
            before, url = url, URL(urljoin(str(url), reply.headers["Location"]))
            if url.origin() != before.origin():
                headers = {}  # they may hold secrets, which are for the first host
            if reply.status == HTTPStatus.SEE_OTHER or (reply.status in (301, 302) and method == "POST"):
                method, body = "GET", None
        raise StepError(f"redirected more than {MOST_REDIRECTS} times", permanent=True)

    def _message(self, call: Call) -> tuple[dict[str, str], bytes | None]:
        """Headers and body, with what the step does not say itself."""
        ours = {"Idempotency-Key": call.key, "User-Agent": "Carillon"}
        body: bytes | None = None
        if isinstance(self.body, str):
            body = self.body.encode()
            ours["Content-Type"] = "text/plain; charset=utf-8"
        elif self.body is not None:
            body = orjson.dumps(self.body)
            ours["Content-Type"] = "application/json"
        said = {name.lower() for name in self.headers}
        return {name: value for name, value in ours.items() if name.lower() not in said} | self.headers, body


async def _send(transport: Transport, method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> Reply:
    try:
        http.check_url(str(url))
        return await http.send(transport.http, method, str(url), body=body, headers=headers, keep=LONGEST_BODY + 1)
    except (http.AddressRefused, aiohttp.InvalidURL, ValueError) as error:
        refused = str(error) if not isinstance(error, aiohttp.InvalidURL) else "the URL is not one"
        raise StepError(refused, permanent=True) from error
    except (aiohttp.ClientError, OSError) as error:
        raise StepError(str(error) or type(error).__name__) from error


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    """As yarl takes it, which has no truth values."""

    def text(value: Any) -> Any:
        return str(value).lower() if isinstance(value, bool) else value

    return {name: [text(v) for v in value] if isinstance(value, list) else text(value) for name, value in query.items()}


def _parsed(reply: Reply) -> Json:
    """The body as JSON, where it says that it is and is kept whole; else as text."""
    if len(reply.text.encode()) > LONGEST_BODY:
        return reply.text[:LONGEST_BODY]
    kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return orjson.loads(reply.text)
        except orjson.JSONDecodeError:
            return reply.text
    return reply.text
