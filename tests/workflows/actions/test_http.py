"""`http.request`, by the performer, against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from django.utils import timezone

from project.fields import complaints
from project.secrets import resolve_written
from tests.live import wait_until
from tests.sinks import Answer, HttpSink
from tests.workflows.actions.calls import problems
from tests.workflows.outside import due_step
from workflows.actions import actions
from workflows.actions.http import LONGEST_BODY
from workflows.models import StepRun
from workflows.performer import Performer

pytestmark = pytest.mark.django_db(transaction=True)

JSON = {"Content-Type": "application/json"}
Attempt = Callable[..., StepRun]


@pytest.fixture
def attempt() -> Iterator[Attempt]:
    """Make one attempt at a step with these settings; returns the step as it is then."""
    performer = Performer()

    def once(with_: dict[str, Any], *, saved: Callable[[], object] = str, **more: Any) -> StepRun:
        row = due_step("http.request", with_, **more)
        saved()
        performer.drain()

        def recorded() -> bool:
            row.refresh_from_db()
            return row.attempts > 0 and row.state != "running"

        wait_until(recorded, what="the record of the attempt")
        return row

    yield once
    performer.stop(patience=1)


def test_it_sends_what_the_step_says_and_tells_what_came_back(attempt: Attempt, http_sink: HttpSink) -> None:
    answer = Answer(201, b'{"id": 7}', {**JSON, "ETag": '"7"', "Set-Cookie": "s=1"})
    http_sink.answers["/orders?all=true&tag=a&tag=b&page=2"] = [answer]
    step = attempt(
        {
            "method": "post",
            "url": http_sink.url("/orders"),
            "query": {"page": 2, "all": True, "tag": ["a", "b"]},
            "headers": {"X-Shop": "1"},
            "body": {"order": "A-1"},
        }
    )
    assert step.state == "succeeded", step.error
    assert http_sink.requests[0].path == "/orders?all=true&tag=a&tag=b&page=2"
    assert step.output.pop("ms") >= 0
    assert step.output == {
        "status": 201,
        "headers": {"content-type": "application/json", "etag": '"7"'},
        "body": {"id": 7},
    }
    (request,) = http_sink.requests
    assert (request.method, orjson.loads(request.body)) == ("POST", {"order": "A-1"})
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-shop"] == "1"
    assert request.headers["idempotency-key"] == f"{step.run_id}/it"


def test_text_is_sent_as_it_is_and_headers_of_the_step_come_first(attempt: Attempt, http_sink: HttpSink) -> None:
    headers = {"content-type": "text/csv", "Idempotency-Key": "mine"}
    step = attempt({"method": "PUT", "url": http_sink.url("/csv"), "body": "a;b\n", "headers": headers})
    assert step.output["body"] == "ok"
    (request,) = http_sink.requests
    assert request.body == b"a;b\n"
    assert request.headers["content-type"] == "text/csv"
    assert request.headers["idempotency-key"] == "mine"


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        (Answer(404, b"no such\norder"), "failed", "answered 404: no such order"),
        (Answer(409, b"taken"), "failed", "answered 409: taken"),
        (Answer(408, b""), "pending", "answered 408: "),
        (Answer(500, b"oops"), "pending", "answered 500: oops"),
        (
            Answer(302, b"", {"Location": "/x"}),
            "failed",
            "answered 302, a redirect to /x; `redirects: true` follows it",
        ),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else "",
)
def test_another_try_is_made_where_it_may_help(
    attempt: Attempt, http_sink: HttpSink, answer: Answer, state: str, told: str
) -> None:
    http_sink.answers["/"] = [answer]
    step = attempt({"url": http_sink.url()})
    assert (step.state, step.error) == (state, told.strip())


def test_retry_after_moves_the_next_attempt(attempt: Attempt, http_sink: HttpSink) -> None:
    http_sink.answers["/"] = [Answer(429, b"slow down", {"Retry-After": "600"})]
    step = attempt({"url": http_sink.url()})
    assert step.due_at is not None
    assert 590 < (step.due_at - timezone.now()).total_seconds() <= 600


def test_the_step_says_which_status_is_expected(attempt: Attempt, http_sink: HttpSink) -> None:
    http_sink.answers["/"] = [Answer(404, b"gone")]
    for expect in ([404], "4xx", ["200-204", "400-409"]):
        assert attempt({"url": http_sink.url(), "expect": expect}).output["status"] == 404
    http_sink.answers["/"] = [Answer(200)]
    assert attempt({"url": http_sink.url(), "expect": [404]}).state == "failed"


def test_a_long_answer_is_cut_and_not_parsed(attempt: Attempt, http_sink: HttpSink) -> None:
    http_sink.answers["/"] = [Answer(200, b'["' + b"x" * LONGEST_BODY + b'"]', JSON)]
    body = attempt({"url": http_sink.url()}).output["body"]
    assert (type(body), len(body)) == (str, LONGEST_BODY)


def test_a_slow_answer_is_not_waited_for(attempt: Attempt, http_sink: HttpSink) -> None:
    http_sink.answers["/"] = [Answer(delay=5)]
    step = attempt({"url": http_sink.url()}, timeout="1s")
    assert (step.state, step.error) == ("pending", "took longer than 1s")


def test_inner_addresses_are_refused_for_good(attempt: Attempt) -> None:
    step = attempt({"url": "${{ event.url }}"}, event={"url": "http://169.254.169.254/latest/meta-data"})
    assert step.state == "failed"
    assert "169.254.169.254 is a cloud metadata address" in step.error


def test_a_redirect_is_followed_where_the_step_says_so_without_secrets_for_others(
    attempt: Attempt, http_sink: HttpSink
) -> None:
    other = HttpSink().start()
    http_sink.answers["/a"] = [Answer(307, b"", {"Location": "/b"})]
    http_sink.answers["/b"] = [Answer(303, b"", {"Location": other.url("/c")})]
    step = attempt(
        {"method": "POST", "url": http_sink.url("/a"), "headers": {"X-Token": "t"}, "body": 1, "redirects": True}
    )
    assert step.state == "succeeded", step.error
    assert [(r.method, r.body, r.headers.get("x-token")) for r in http_sink.requests] == [("POST", b"1", "t")] * 2
    assert [(r.method, r.body, r.headers.get("x-token")) for r in other.requests] == [("GET", b"", None)]
    http_sink.answers["/loop"] = [Answer(302, b"", {"Location": "/loop"})]
    assert attempt({"url": http_sink.url("/loop"), "redirects": True}).error == "redirected more than 5 times"
    http_sink.answers["/in"] = [Answer(302, b"", {"Location": "http://10.0.0.1/"})]
    assert "10.0.0.1 is a private" in attempt({"url": http_sink.url("/in"), "redirects": True}).error
    other.stop()


def test_secrets_are_sent_and_stored_nowhere(
    attempt: Attempt, http_sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "s3cret")
    headers = {"Authorization": "Bearer ${SHOP_TOKEN}", "X-Id": "${{ event.id }}"}
    with_, event = {"url": http_sink.url("/x"), "headers": headers}, {"id": "${SHOP_TOKEN}"}
    step = attempt(with_, event=event)
    assert step.state == "succeeded", step.error
    (request,) = http_sink.requests
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["x-id"] == "${SHOP_TOKEN}", "what an event says is not looked up"
    row = StepRun.objects.filter(pk=step.pk).values().get()
    assert "s3cret" not in str(row)
    step = attempt(with_, event=event, saved=lambda: monkeypatch.setenv("SHOP_TOKEN", "s3cret\n"))
    assert (step.state, step.error) == ("failed", "with.headers: not right once the variables are filled in")
    step = attempt(with_, event=event, saved=lambda: monkeypatch.delenv("SHOP_TOKEN"))
    assert step.error == "with: ${SHOP_TOKEN} is not set: no variable SHOP_TOKEN in the environment"


def test_only_what_was_written_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "1")
    monkeypatch.setenv("B", "2")
    assert resolve_written({"x": "${A} ${B}"}, {"x": "${A} ${{ event.b }}"}) == {"x": "1 ${B}"}
    assert resolve_written(["${A}", "${B}"], ["${A}", "${{ b }}"]) == ["1", "${B}"]
    assert resolve_written({"x": ["${A}"]}, {"x": "${{ event.list }}"}) == {"x": ["${A}"]}
    assert resolve_written("${A}", None) == "${A}"


def test_mistakes_are_found_when_the_workflow_is_saved() -> None:
    assert problems("http.request", url="ftp://x") == {"url": "a URL must begin with http:// or https://"}
    assert "loopback" in problems("http.request", url="http://[::1]/")["url"]
    assert problems("http.request", url="${{ event.url }}", headers={"X": "${NO_SUCH}"}) == {
        "headers": "${NO_SUCH} is not set: no variable NO_SUCH in the environment"
    }
    assert problems("http.request", url="https://example.com") == {}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("expect", ["9xx"], '"9xx" is no status; write for example 200, 200-204 or 2xx'),
        ("headers", {"a b": "x"}, '"a b" is not a header name'),
        ("headers", {"Host": "x"}, "Host is set by Carillon itself"),
        ("headers", {"X": "a\nb"}, "the value of X must be one line of printable characters"),
    ],
)
def test_a_wrong_field_is_told(field: str, value: Any, message: str) -> None:
    assert complaints(actions["http.request"], {"url": "http://x", field: value}) == [((field,), message)]
