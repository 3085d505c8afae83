"""Deciding on a step that waits: the page behind its link, and the API."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
import requests
from pytest_django.live_server_helper import LiveServer

from tests.workflows.runs import drain, outcome, start, time_passes, workflow
from workflows import engine
from workflows.models import Run, StepRun
from workflows.scope import token_of

pytestmark = pytest.mark.django_db(transaction=True)

ASK = (
    "  - {id: ack, action: approval, with: {timeout: 15m}}\n"
    "  - {id: after, action: transform, with: {values: '${{ steps.ack.outcome }}'}}\n"
)
ABOUT = {"type": "refund.requested", "subject": "A-1 <b>", "source": "/shop", "id": "1", "data": {"secret": "s3cret"}}


class Approver:
    """Somebody who was sent the link of the step `ack`."""

    def __init__(self, server: str, run: Run, step: str = "ack") -> None:
        self.token = token_of(run.uid, step)
        self.page = f"{server}/steps/{self.token}"
        self.api = f"{server}/api/v1/steps/{self.token}/complete"
        self.session = requests.Session()
        self.csrf = ""

    def look(self) -> requests.Response:
        return self.session.get(self.page, timeout=30)

    def press(self, button: str, comment: str = "") -> requests.Response:
        """Press the button on the page, which may have been opened a while ago."""
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.look().text)
        self.csrf = found[1] if found else self.csrf
        form = {"csrfmiddlewaretoken": self.csrf, "outcome": button, "comment": comment}
        return self.session.post(self.page, data=form, timeout=30)

    def complete(self, body: Any = None, **more: Any) -> requests.Response:
        return self.session.post(self.api, **({"json": body} if body is not None else more), timeout=30)


def asking(server: LiveServer, steps: str = ASK) -> tuple[Run, Approver]:
    (run,) = start(workflow(steps, rest="description: Give money back"), ABOUT)
    drain()
    return run, Approver(server.url, run)


def ended(run: Run) -> Any:
    """The output of the step `ack`, once the run is done."""
    drain()
    run.refresh_from_db()
    assert run.state == "succeeded", run.error
    return run.steps["ack"]["output"]


def refused(answer: requests.Response, status: int, *paths: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [error["path"] for error in answer.json().get("errors", [])] == list(paths)
    return str(answer.json()["detail"])


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_says_what_is_asked_and_looking_decides_nothing(live_server: LiveServer) -> None:
    run, ada = asking(live_server)
    for method in ("GET", "HEAD", "GET"):  # some scanners ask for the head first
        answer = ada.session.request(method, ada.page, timeout=30)
        assert answer.status_code == 200
    for words in ("refund.requested", "A-1 &lt;b&gt;", "Give money back", ">w<", ">ack<", "14\xa0minutes"):
        assert words in answer.text, words
    assert "s3cret" not in answer.text
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["X-Robots-Tag"] == "noindex"
    drain()
    assert outcome(run) == {"ack": "waiting"}


@pytest.mark.parametrize(("button", "words"), [("approved", "Approved"), ("rejected", "Rejected")])
def test_a_decision_is_taken_once_and_shown(live_server: LiveServer, button: str, words: str) -> None:
    run, ada = asking(live_server)
    answer = ada.press(button, "fine\r\nby me")  # as browsers send it
    assert answer.status_code == 200
    assert words in answer.text
    assert "fine\nby me" in answer.text
    again = ada.press("approved" if button == "rejected" else "rejected")
    assert again.status_code == 410
    assert f"Already {button}" in again.text
    assert ended(run) == {"outcome": button, "comment": "fine\nby me"}
    assert run.steps["after"]["output"] == button
    assert f"Already {button}" in ada.look().text


def test_a_post_from_elsewhere_decides_nothing(live_server: LiveServer) -> None:
    run, ada = asking(live_server)
    assert ada.session.post(ada.page, data={"outcome": "approved"}, timeout=30).status_code == 403
    assert outcome(run) == {"ack": "waiting"}


@pytest.mark.parametrize(
    ("button", "comment"), [("maybe", ""), ("", ""), ("approved", "x" * 2001), ("approved", "a\0")]
)
def test_a_form_that_means_nothing_is_shown_again(live_server: LiveServer, button: str, comment: str) -> None:
    run, ada = asking(live_server)
    answer = ada.press(button, comment)
    assert answer.status_code == 422
    assert 'class="wrong"' in answer.text
    assert outcome(run) == {"ack": "waiting"}


def test_a_forged_link_leads_nowhere(live_server: LiveServer) -> None:
    run, ada = asking(live_server)
    signature = ada.token.rpartition("~")[2]
    for token in ("x", f"{run.uid.hex}.ack", f"{run.uid.hex}.other~{signature}", ada.token[:-1], f"{ada.token}0"):
        forged = Approver(live_server.url, run)
        forged.page, forged.api = ada.page.replace(ada.token, token), ada.api.replace(ada.token, token)
        assert forged.look().status_code == 404
        assert "Unknown link" in forged.look().text
        refused(forged.complete({"outcome": "approved"}), 404)
    Run.objects.all().delete()
    assert ada.look().status_code == 404
    assert outcome(run) == {}


def stood(answer: requests.Response, status: int, words: str) -> None:
    assert answer.status_code == status
    assert words in answer.text
    assert "<form" not in answer.text


def test_a_page_says_why_there_is_nothing_to_decide(live_server: LiveServer) -> None:
    run, ada = asking(live_server, "  - {id: sleep, action: delay, with: {for: 1h}}\n" + ASK)
    stood(ada.look(), 409, "nothing to decide yet")
    assert refused(ada.complete({"outcome": "approved"}), 409) == "The step does not wait yet."
    time_passes(3601)
    assert ada.press("").status_code == 422
    StepRun.objects.filter(step="ack").update(due_at=run.started_at)  # over, and nobody has looked at it yet
    stood(ada.look(), 410, "Too late")
    stood(ada.press("approved"), 410, "Too late")
    time_passes(900)
    stood(ada.look(), 410, "Too late")
    assert refused(ada.complete({"outcome": "approved"}), 409) == "The step has timed out."
    assert ended(run) == {"outcome": "timed_out"}


def test_a_cancelled_run_needs_no_decision(live_server: LiveServer) -> None:
    run, ada = asking(live_server)
    assert ada.press("").status_code == 422  # the page is open when the run is cancelled
    engine.cancel(Run.objects.all(), reason="no longer wanted")
    stood(ada.look(), 410, "Cancelled")
    stood(ada.press("approved"), 410, "Cancelled")
    assert refused(ada.complete({"outcome": "approved"}), 409) == "The step was cancelled."
    never = Approver(live_server.url, run, "after")
    assert refused(never.complete({"outcome": "approved"}), 409) == "The step was cancelled."


def test_a_step_that_was_skipped_or_is_no_question_cannot_be_decided(live_server: LiveServer) -> None:
    run, ada = asking(live_server, "  - {id: ack, if: false, action: approval}\n")
    stood(ada.look(), 410, "Over")
    assert "the run went on without it" in refused(ada.complete({"outcome": "approved"}), 409)
    assert Run.objects.get(pk=run.pk).state == "succeeded"


def test_a_retried_run_asks_again_by_the_same_link(live_server: LiveServer) -> None:
    run, ada = asking(live_server)
    assert ada.press("").status_code == 422  # the page is open when the run is cancelled
    engine.cancel(Run.objects.all(), reason="by mistake")
    engine.retry(run.uid)
    stood(ada.look(), 409, "nothing to decide yet")
    drain()
    assert ada.press("approved").status_code == 200
    assert ended(run) == {"outcome": "approved", "comment": ""}
    assert list(StepRun.objects.filter(step="ack").order_by("round").values_list("round", "state")) == [
        (0, "cancelled"),
        (1, "succeeded"),
    ]


# --- the API ---------------------------------------------------------------------------------------------------------


def test_a_program_decides_with_the_token_alone(live_server: LiveServer) -> None:
    run, program = asking(live_server)
    answer = program.complete({"outcome": "approved", "comment": "ok"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"run": str(run.uid), "step": "ack", "outcome": "approved", "comment": "ok"}
    assert refused(program.complete({"outcome": "rejected"}), 409) == "The step was already approved."
    assert ended(run) == {"outcome": "approved", "comment": "ok"}


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["outcome"]),
        ({"outcome": "maybe"}, ["outcome"]),
        ({"outcome": "timed_out"}, ["outcome"]),
        ({"outcome": "approved", "comment": 1}, ["comment"]),
        ({"outcome": "approved", "comment": "x" * 2001}, ["comment"]),
        ({"outcome": "approved", "comment": "\0"}, ["comment"]),
        ({"outcome": "approved", "coment": "x"}, ["coment"]),
        ([], [""]),
    ],
)
def test_what_means_nothing_is_told_by_field(live_server: LiveServer, body: Any, paths: list[str]) -> None:
    run, program = asking(live_server)
    refused(program.complete(body), 422, *paths)
    assert outcome(run) == {"ack": "waiting"}


def test_what_is_no_json_is_refused(live_server: LiveServer) -> None:
    _, program = asking(live_server)
    json = {"Content-Type": "application/json"}
    refused(program.complete(data="{", headers=json), 400)
    refused(program.complete(data="outcome=approved", headers={"Content-Type": "text/plain"}), 415)
    refused(program.complete(data=b'"' + b"x" * 300_000 + b'"', headers=json), 413)
    refused(program.complete(data=b"", headers=json), 422, "outcome")


def test_of_many_who_decide_at_once_one_is_heard(live_server: LiveServer) -> None:
    run, _ = asking(live_server)
    answers: list[tuple[int, str]] = []

    def decide(choice: str) -> None:
        answers.append((Approver(live_server.url, run).complete({"outcome": choice}).status_code, choice))

    threads = [threading.Thread(target=decide, args=(("approved", "rejected")[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [choice for status, choice in answers if status == 200]
    assert len(taken) == 1
    assert sorted(status for status, _ in answers) == [200] + [409] * 7
    assert ended(run)["outcome"] == taken[0]
