"""docs/how-to/send-events.md: its programs send, try again with the same id, and say why an event was refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pytest_django.live_server_helper import LiveServer

from events.models import ApiKey, Event, Source
from project.apply import apply, read_files
from project.scopes import Scope
from tests.sinks import Answer, HttpSink

DOCUMENT: Final = (Path(__file__).parent.parent / "docs" / "how-to" / "send-events.md").read_text()
BLOCKS: Final = dict(re.findall(r"```\w+ title=(\S+)\n(.*?)```", DOCUMENT, re.DOTALL))
DATA: Final = {"order_id": "A-1001", "amount": 120.5}
ARGUMENTS: Final = ("order.paid", json.dumps(DATA))
CURL_REFUSED: Final = 22

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass(frozen=True)
class Way:
    """How a program of the page is run, and what it then sends."""

    command: Sequence[str]
    needs: str  # the program that runs it
    id: str = ""  # the event's, where it is not random
    type: str = "order.paid"
    subject: str = ""
    source: str = "/shop"
    data: Any = field(default_factory=lambda: DATA)
    code: int = 1  # with which it ends when the event is refused
    environment: Mapping[str, str] = field(default_factory=dict)


GITHUB: Final = {  # https://docs.github.com/en/actions/reference/workflows-and-actions/variables
    "GITHUB_JOB": "deploy",
    "GITHUB_REF_NAME": 'feature/"quoted"',
    "GITHUB_REPOSITORY": "octocat/hello-world",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_RUN_ID": "1658821493",
    "GITHUB_SERVER_URL": "https://github.com",
}
GITLAB: Final = {  # https://docs.gitlab.com/ci/variables/predefined_variables/
    "CI_COMMIT_REF_NAME": 'feature/"quoted"',
    "CI_JOB_ID": "42",
    "CI_JOB_STATUS": "failed",
    "CI_JOB_URL": "https://gitlab.com/group/project/-/jobs/42",
    "CI_PROJECT_PATH": "group/project",
}
# `run` without a `shell` is `bash -e` there; alpine's shell has no more than POSIX.
WAYS: Final = {
    "once.sh": Way(["bash", "once.sh"], "curl", id="order-A-1001-paid", code=CURL_REFUSED),
    "carillon-send": Way(
        ["./carillon-send", *ARGUMENTS, "A-1001", "n-1"], "curl", id="n-1", subject="A-1001", code=CURL_REFUSED
    ),
    "carillon-cron": Way(
        ["./carillon-cron", "backup", "sh", "-c", "exit 3"],
        "curl",
        type="cron.finished",
        subject="backup",
        data={"job": "backup", "exit": 3},
        code=3,
    ),
    "send_event.py": Way([sys.executable, "send_event.py", *ARGUMENTS], sys.executable),
    "send_event_requests.py": Way([sys.executable, "send_event_requests.py", *ARGUMENTS], sys.executable),
    "send_cloudevent.py": Way([sys.executable, "send_cloudevent.py", *ARGUMENTS], sys.executable, source="/shop/eu"),
    "send-event.mjs": Way(["node", "send-event.mjs", *ARGUMENTS], "node"),
    "send-cloudevent.mjs": Way(["node", "send-cloudevent.mjs", *ARGUMENTS], "node", source="/shop/eu"),
    "send-event.go": Way(["go", "run", "send-event.go", *ARGUMENTS], "go"),
    ".github/workflows/deploy.yml": Way(
        ["bash", "-e", "step.sh"],
        "jq",
        id="github-1658821493-2-deploy",
        type="ci.finished",
        subject="octocat/hello-world",
        data={
            "repository": "octocat/hello-world",
            "branch": 'feature/"quoted"',
            "status": "failure",
            "url": "https://github.com/octocat/hello-world/actions/runs/1658821493",
        },
        code=CURL_REFUSED,
        environment=GITHUB,
    ),
    ".gitlab-ci.yml": Way(
        ["sh", "-e", "step.sh"],
        "jq",
        id="gitlab-42",
        type="ci.finished",
        subject="group/project",
        data={
            "repository": "group/project",
            "branch": 'feature/"quoted"',
            "status": "failed",
            "url": "https://gitlab.com/group/project/-/jobs/42",
        },
        code=CURL_REFUSED,
        environment=GITLAB,
    ),
}
CONFIGURATION: Final = "send-events.yaml"


class Sender:
    """Somebody who has copied the page's programs into a folder."""

    def __init__(self, folder: Path, title: str, key: str) -> None:
        self.way, self.folder = WAYS[title], folder
        self.environment = {
            "PATH": os.pathsep.join([str(folder), os.environ["PATH"]]),
            "HOME": os.environ.get("HOME", "/"),
            "CARILLON_API_KEY": key,
            **self.way.environment,
        }
        for name, text in BLOCKS.items():
            path = folder / Path(name).name
            path.write_text(text)
            path.chmod(0o755)
        if title in STEPS:
            script, more = STEPS[title](yaml.safe_load(BLOCKS[title]))
            (folder / "step.sh").write_text(script)
            self.environment |= more

    def run(self, url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.way.command,
            cwd=self.folder,
            env={**self.environment, "CARILLON_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def of_github(workflow: Any) -> tuple[str, dict[str, str]]:
    step = workflow["jobs"]["deploy"]["steps"][-1]
    assert step["env"] == {
        "CARILLON_URL": "${{ vars.CARILLON_URL }}",
        "CARILLON_API_KEY": "${{ secrets.CARILLON_API_KEY }}",
        "STATUS": "${{ job.status }}",
    }
    return step["run"], {"STATUS": "failure"}


def of_gitlab(jobs: Any) -> tuple[str, dict[str, str]]:
    return "\n".join(jobs["deploy"]["after_script"]), {}


STEPS: Final = {".github/workflows/deploy.yml": of_github, ".gitlab-ci.yml": of_gitlab}


@pytest.fixture(params=WAYS)
def sender(request: pytest.FixtureRequest, tmp_path: Path) -> Sender:
    way = WAYS[request.param]
    if not shutil.which(way.needs):
        pytest.skip(f"no {way.needs} here")
    if "import { CloudEvent" in BLOCKS[request.param]:
        modules = os.environ.get("NODE_MODULES", "")
        if not Path(modules, "cloudevents").is_dir():
            pytest.skip("no SDK of CloudEvents for Node here: NODE_MODULES names a folder that `npm install` filled")
        (tmp_path / "node_modules").symlink_to(modules)
    source = Source.objects.create(name="shop")
    _, key = ApiKey.issue(source, "tests", [Scope.EVENTS_WRITE])
    return Sender(tmp_path, request.param, key)


def configure(tmp_path: Path) -> None:
    (tmp_path / CONFIGURATION).write_text(BLOCKS[CONFIGURATION])
    apply(read_files([tmp_path / CONFIGURATION]))


def test_every_program_is_tried() -> None:
    assert set(BLOCKS) == {CONFIGURATION, *WAYS}


def test_it_sends(sender: Sender, live_server: LiveServer, tmp_path: Path) -> None:
    configure(tmp_path)
    done = sender.run(live_server.url)
    way = sender.way
    assert done.returncode == (3 if way.type == "cron.finished" else 0), done.stderr + done.stdout
    event = Event.objects.get()
    assert (event.type, event.subject, event.source) == (way.type, way.subject, way.source)
    assert {name: event.data[name] for name in way.data} == way.data
    assert event.event_id == (way.id or event.event_id)
    if way.type == "cron.finished":
        assert event.data["seconds"] in (0, 1, 2)
        assert (done.stdout, done.stderr) == ("", "")


def test_it_tries_again_with_the_same_id(sender: Sender, http_sink: HttpSink) -> None:
    stored = Answer(202, b'{"uid": "1", "id": "1", "source": "/shop", "type": "t", "duplicate": false}')
    http_sink.answers["/api/v1/events"] = [Answer(503, b"{}", {"Retry-After": "1"}), stored]
    done = sender.run(http_sink.url("").rstrip("/"))
    assert done.returncode == (3 if sender.way.type == "cron.finished" else 0), done.stderr + done.stdout
    first, second = http_sink.requests
    assert second.at - first.at > 0.9
    sent = [json.loads(request.body) for request in (first, second)]
    assert sent[0]["id"] == sent[1]["id"] != ""


def test_it_says_why_an_event_is_refused(sender: Sender, live_server: LiveServer) -> None:
    done = sender.run(live_server.url)  # no event type is known yet
    assert done.returncode == sender.way.code
    assert f"there is no event type '{sender.way.type}'" in done.stdout + done.stderr
    assert not Event.objects.exists()


def test_a_quote_cannot_break_the_shells_json(tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    Source.objects.create(name="shop")
    sender = Sender(tmp_path, "carillon-send", "key")
    for arguments in (['a"b'], ["a", "{}", "a\\b"], ["a", "{}", "", 'a"']):
        done = subprocess.run(
            ["./carillon-send", *arguments], cwd=tmp_path, env=sender.environment, capture_output=True, check=False
        )
        assert (done.returncode, b"neither quotes nor backslashes" in done.stderr) == (2, True)
