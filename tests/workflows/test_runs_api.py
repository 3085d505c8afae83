"""The API of runs and records, over real HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from events.models import ApiKey, Source
from project.scopes import Scope
from tests.workflows.runs import drain, outcome, start, workflow
from workflows.models import Record, Run, Workflow

pytestmark = pytest.mark.django_db(transaction=True)

SLEEP = "  - {id: sleep, action: delay, with: {for: 1h}}\n"
FAIL = "  - {id: refuse, action: fail, with: {message: no}}\n"
DO = "  - {id: do, action: record.put, with: {collection: seen, key: a/b, value: '${{ event }}'}}\n"


class Operator:
    """A program with an API key."""

    def __init__(self, server: str, *scopes: Scope) -> None:
        self.base = f"{server}/api/v1"
        source, _ = Source.objects.get_or_create(name="ops")
        _, key = ApiKey.issue(source, "tests", [*scopes])
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str, **parameters: Any) -> requests.Response:
        return self.session.get(f"{self.base}/{path}", params=parameters, timeout=30)

    def post(self, path: str, body: Any = None) -> requests.Response:
        return self.session.post(f"{self.base}/{path}", json=body, timeout=30)

    def runs(self, **parameters: Any) -> list[str]:
        answer = self.get("runs", **parameters)
        assert answer.status_code == 200, answer.text
        return [run["uid"] for run in answer.json()["results"]]


@pytest.fixture
def operator(live_server: LiveServer) -> Operator:
    return Operator(live_server.url, Scope.EVENTS_READ, Scope.RUNS_WRITE)


def refused(answer: requests.Response, status: int, *paths: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [error["path"] for error in answer.json().get("errors", [])] == list(paths)
    return str(answer.json()["detail"])


def uids(*runs: Run) -> list[str]:
    return [str(run.uid) for run in runs]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_list_of_runs_is_newest_first_and_filtered(operator: Operator) -> None:
    (old,) = start(workflow(FAIL, "failing"), {})
    (new,) = start(workflow(SLEEP, "sleeping"), {})
    drain()
    origin = uuid4()
    Run.objects.filter(pk=old.pk).update(origin=origin, trigger="s")
    assert operator.runs() == uids(new, old)
    assert operator.runs(workflow="failing") == operator.runs(state="failed") == uids(old)
    assert operator.runs(origin=origin) == operator.runs(origin=origin.hex) == uids(old)
    assert operator.runs(parent=uuid4()) == []
    hour = timedelta(hours=1)
    assert operator.runs(since=(timezone.now() - hour).isoformat()) == uids(new, old)
    assert operator.runs(until=(timezone.now() - hour).isoformat()) == []
    assert operator.runs(until="9999-12-31T23:59:59Z", since="0001-01-01T00:00:00Z") == uids(new, old)
    first = operator.get("runs", limit=1).json()
    assert [run["uid"] for run in first["results"]] == uids(new)
    second = operator.session.get(first["next"], timeout=30).json()
    assert [run["uid"] for run in second["results"]] == uids(old)
    told = second["results"][0]
    assert (told["workflow"], told["version"], told["state"], told["error"]) == ("failing", 1, "failed", "refuse: no")


@pytest.mark.parametrize(
    "parameters",
    [
        {"state": "done"},
        {"state": ""},
        {"workflow": "nobody"},
        {"origin": "x"},
        {"parent": ""},
        {"since": "now"},
        {"until": ""},
        {"workflow": "a\0"},
        {"limit": "0"},
        {"cursor": "x"},
        {"colour": "red"},
    ],
)
def test_a_parameter_that_means_nothing_is_refused(operator: Operator, parameters: dict[str, str]) -> None:
    refused(operator.get("runs", **parameters), 400, *parameters)


def test_a_run_is_told_with_its_steps_their_items_and_its_children(operator: Operator) -> None:
    workflow(SLEEP, "child")
    (run,) = start(
        workflow(
            "  - {id: each, for_each: [a, b], action: workflow.run, with: {workflow: child}}\n"
            "  - {id: ack, action: approval, with: {timeout: 1h}}\n"
        ),
        {},
    )
    drain()
    told = operator.get(f"runs/{run.uid}").json()
    assert [(step["id"], step["item"], step["state"]) for step in told["steps"]] == [
        ("each", 0, "waiting"),
        ("each", 1, "waiting"),
    ]
    (child,) = told["steps"][1]["runs"]
    assert (child["workflow"], child["parent"], child["origin"]) == ("child", str(run.uid), told["steps"][1]["uid"])
    assert child["steps"][0]["due_at"] > child["started_at"]
    assert child["steps"][0]["output"] is None
    assert sorted(operator.runs(parent=run.uid)) == sorted(step["runs"][0]["uid"] for step in told["steps"])
    refused(operator.get(f"runs/{uuid4()}"), 404)


def test_records_are_read_one_by_one_and_by_collection(operator: Operator) -> None:
    for key in ("b", "a/b", "c"):
        Record.objects.create(collection="things", key=key, value={"key": key}, version=2)
    Record.objects.create(collection="others", key="a", value=1)
    answer = operator.get("records/things/a/b")
    assert answer.status_code == 200
    told = answer.json()
    assert told == {
        "collection": "things",
        "key": "a/b",
        "value": {"key": "a/b"},
        "version": 2,
        "updated_at": told["updated_at"],
    }
    assert [row["key"] for row in operator.get("records/things").json()["results"]] == ["a/b", "b", "c"]
    first = operator.get("records/things", limit=2).json()
    assert [row["key"] for row in operator.session.get(first["next"], timeout=30).json()["results"]] == ["c"]
    assert operator.get("records/nothing").json()["results"] == []
    assert 'no record "x" in the collection "things"' in refused(operator.get("records/things/x"), 404)
    refused(operator.get("records/things/%00"), 404)
    refused(operator.get("records/things", colour="red"), 400, "colour")


# --- doing -----------------------------------------------------------------------------------------------------------


def test_a_run_is_started_with_any_input(operator: Operator) -> None:
    workflow(DO)
    answer = operator.post("workflows/w/runs", {"input": {"a": [1, {"b": "c"}]}})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["state"], answer.json()["subscription"]) == ("running", "the API (/ops)")
    drain()
    assert operator.get("records/seen/a/b").json()["value"] == {"a": [1, {"b": "c"}]}
    assert operator.get(f"runs/{answer.json()['uid']}").json()["state"] == "succeeded"
    assert operator.post("workflows/w/runs", {"input": {}}).status_code == 202


def test_a_workflow_that_starts_nothing_says_why(operator: Operator) -> None:
    version = workflow(DO)
    assert 'did you mean "w"' in refused(operator.post("workflows/ww/runs", {"input": {}}), 404)
    refused(operator.post("workflows/%00/runs", {"input": {}}), 404)
    Workflow.objects.create(name="empty")
    assert "no published version" in refused(operator.post("workflows/empty/runs", {"input": {}}), 409)
    Workflow.objects.filter(pk=version.workflow_id).update(enabled=False)
    assert "is disabled" in refused(operator.post("workflows/w/runs", {"input": {}}), 409)
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("body", "path"),
    [({}, "input"), ({"input": []}, "input"), ({"input": {"a": "\0"}}, "input"), ({"input": {}, "x": 1}, "x"), (1, "")],
)
def test_an_input_that_is_none_is_refused(operator: Operator, body: Any, path: str) -> None:
    workflow(DO)
    refused(operator.post("workflows/w/runs", body), 422, path)


def test_a_run_is_cancelled_once(operator: Operator) -> None:
    (run,) = start(workflow(SLEEP), {})
    drain()
    answer = operator.post(f"runs/{run.uid}/cancel")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["error"]) == ("cancelled", "cancelled by the API (/ops)")
    assert outcome(run) == {"sleep": "cancelled"}
    assert "The run is cancelled" in refused(operator.post(f"runs/{run.uid}/cancel"), 409)
    refused(operator.post(f"runs/{uuid4()}/cancel"), 404)


def test_many_runs_are_cancelled_by_a_filter(operator: Operator) -> None:
    start(workflow(SLEEP, "a"), *[{}] * 5)
    start(workflow(SLEEP, "b"), *[{}] * 2)
    drain()
    start(workflow(SLEEP, "b"), {})

    def cancelled(**names: str) -> int:
        answer = operator.post("runs/cancel", names)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["cancelled"])

    assert cancelled(workflow="a", since=(timezone.now() + timedelta(hours=1)).isoformat()) == 0
    assert cancelled(workflow="a") == 5
    assert cancelled(workflow="a") == 0
    assert cancelled(state="running") == 1
    assert cancelled(since="2020-01-01T00:00:00Z") == 2
    assert set(Run.objects.values_list("state", flat=True)) == {"cancelled"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, ""),
        ({"workflow": "x"}, "workflow"),
        ({"workflow": None}, "workflow"),
        ({"state": "failed"}, "state"),
        ({"state": None}, "state"),
        ({"since": "yesterday"}, "since"),
        ({"since": 0}, "since"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
    ],
)
def test_a_filter_that_means_nothing_cancels_nothing(operator: Operator, body: Any, path: str) -> None:
    (run,) = start(workflow(SLEEP), {})
    refused(operator.post("runs/cancel", body), 422, path)
    assert Run.objects.get(pk=run.pk).state == "running"


def test_a_failed_run_is_retried_with_its_own_or_the_newest_version(operator: Operator) -> None:
    (run,) = start(workflow(FAIL), {})
    drain()
    workflow(DO)
    for body in (None, {}, {"version": "pinned"}):
        answer = operator.post(f"runs/{run.uid}/retry", body)
        assert answer.status_code == 202, answer.text
        assert answer.json()["version"] == 1
        assert "The run is running" in refused(operator.post(f"runs/{run.uid}/retry"), 409)
        drain()
    answer = operator.post(f"runs/{run.uid}/retry", {"version": "newest"})
    assert (answer.json()["version"], answer.json()["round"]) == (2, 4)
    drain()
    told = operator.get(f"runs/{run.uid}").json()
    assert told["state"] == "succeeded"
    assert [(step["id"], step["round"]) for step in told["steps"]] == [*(("refuse", n) for n in range(4)), ("do", 4)]
    refused(operator.post(f"runs/{run.uid}/retry", {"version": "3"}), 422, "version")
    refused(operator.post(f"runs/{uuid4()}/retry"), 404)


def test_a_key_needs_the_scope(live_server: LiveServer) -> None:
    (run,) = start(workflow(SLEEP), {})
    reader = Operator(live_server.url, Scope.EVENTS_READ)
    writer = Operator(live_server.url, Scope.RUNS_WRITE)
    stranger = Operator(live_server.url)
    stranger.session.headers.clear()
    for path in ("runs", f"runs/{run.uid}", "records/a", "records/a/b"):
        assert "lacks the scope events:read" in refused(writer.get(path), 403)
        refused(stranger.get(path), 401)
    for path in (f"runs/{run.uid}/cancel", f"runs/{run.uid}/retry", "runs/cancel", "workflows/w/runs"):
        assert "lacks the scope runs:write" in refused(reader.post(path, {}), 403)
        refused(stranger.post(path, {}), 401)
    assert Run.objects.get().state == "running"
