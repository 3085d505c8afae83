"""`manage.py demo` against a whole stack: three stories that end in delivered mail and chat, or a reason."""

import subprocess
from collections.abc import Iterator

import pytest

from events.models import ApiKey, Source
from examples.demo import STORIES
from examples.ops.models import Incident, Order
from project.scopes import Scope
from tests.live import Live
from tests.sinks import HttpSink, SmtpSink
from workflows.models import Record

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def chat() -> Iterator[HttpSink]:
    sink = HttpSink().start()
    yield sink
    sink.stop()


@pytest.fixture(scope="module")
def mail() -> Iterator[SmtpSink]:
    sink = SmtpSink().start()
    yield sink
    sink.stop()


@pytest.fixture(scope="module")
def stack(shared_live: Live, chat: HttpSink, mail: SmtpSink) -> Live:
    """One for all tests: each leaves its events and rows to those that follow."""
    live = shared_live
    live.environment |= {
        "EMAIL_URL": mail.url,
        "INBOX_SLACK_URL": chat.url("/slack"),
        "GITHUB_WEBHOOK_SECRET": "of the demo's GitHub",
        "ALERTMANAGER_TOKEN": "of-the-demos-alertmanager",
        "NO_COLOR": "1",
    }
    live.start("web", "worker", "performer", "sender", "clock")
    live.manage("apply", "examples")
    _, live.environment["CARILLON_API_KEY"] = ApiKey.issue(Source.objects.get(name="local"), "demo", list(Scope.values))
    live.wait_ready()
    return live


def test_the_demo_tells_three_stories_to_their_end(stack: Live, chat: HttpSink, mail: SmtpSink) -> None:
    told = stack.manage("demo")
    assert told.endswith("All three stories ended in delivered mail and chat.\n")
    for story in STORIES:
        assert f"✔ {story.subscription} matched" in told
        came_from = f"/{story.hook.source}" if story.hook else "/local"
        assert f"event  {story.type} about {story.subject}, from {came_from}\n" in told
    assert '· recovered-workflow-runs filtered: event.data.workflow_run.conclusion == "success" is false' in told
    assert "✔ record (database.upsert) ops.Order order_id A-1001: added" in told
    assert "✔ ops-mail to care@example.com: delivered" in told
    assert "✔ ops-chat: delivered" in told

    assert Incident.objects.get().status == "failed"
    assert Order.objects.get().customer == "Ada"
    assert Record.objects.get().value["alerts"] == 2
    assert len(chat.wait_for(3, "/slack")) == 3
    assert {to for one in mail.mails for to in one.recipients} == {"ada@example.com", "care@example.com"}


def test_the_demos_webhooks_are_believed_by_their_secrets_only(stack: Live) -> None:
    for wrong, told in (("", "GITHUB_WEBHOOK_SECRET is not set"), ("another", "/hooks/github answered 401: ")):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            stack.manage("demo", GITHUB_WEBHOOK_SECRET=wrong)
        assert told in caught.value.stderr


def test_the_demo_says_what_did_not_happen(stack: Live, mail: SmtpSink) -> None:
    mail.stop()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        stack.manage("demo", "--seconds", "2")
    assert caught.value.returncode == 1
    assert "An order was paid: the mail by ops-mail is pending: " in caught.value.stderr
    assert "`manage.py doctor`" in caught.value.stderr


def test_the_demo_needs_a_stack(live: Live) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        live.manage("demo")
    assert "No running stack was found: CARILLON_URL and CARILLON_API_KEY" in caught.value.stderr
    live.environment |= {"CARILLON_API_KEY": "x", "GITHUB_WEBHOOK_SECRET": "x"}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        live.manage("demo")
    assert "does not answer" in caught.value.stderr
    assert "Is `make run` running?" in caught.value.stderr
