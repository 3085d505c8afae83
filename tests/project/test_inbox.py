"""The local inbox: mail by SMTP, chat by its Slack-compatible webhook, both shown and listed."""

import json
import smtplib
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from project.children import spawn, stop
from project.embedded import free_port
from project.inbox.models import KEPT, Message
from project.inbox.receive import mail
from project.processes import PROCESSES
from tests.live import wait_until

pytestmark = pytest.mark.django_db


def a_mail(**headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in {"Subject": "Order A-1 paid", "From": "carillon@example.com", **headers}.items():
        message[name] = value
    message.set_content("Ada paid 120.50 €.")
    message.add_alternative("<p>Ada paid <b>120.50 €</b>.</p>", subtype="html")
    return message


def test_a_mail_is_kept_with_its_text_its_html_and_its_headers(client: Client) -> None:
    mail(a_mail(To="ada@example.com").as_bytes(), ["ada@example.com", "blind@example.com"])
    (message,) = client.get("/inbox/messages").json()
    assert message["kind"] == "email"
    assert message["to"] == "ada@example.com, blind@example.com"
    assert message["subject"] == "Order A-1 paid"
    assert message["text"] == "Ada paid 120.50 €.\n"
    assert "<b>120.50 €</b>" in message["html"]
    assert message["headers"]["From"] == "carillon@example.com"
    assert set(message) == {"id", "kind", "to", "subject", "text", "html", "headers", "received_at"}


def test_a_broken_mail_is_kept_all_the_same(client: Client) -> None:
    mail(b"Subject: =?x?\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n\xff\x00body", ["ada@example.com"])
    (message,) = client.get("/inbox/messages").json()
    assert "body" in message["text"]


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_the_slack_webhook_takes_what_slack_takes(client: Client, content_type: str) -> None:
    payload = json.dumps({"text": "It *burns*", "channel": "#ops", "username": "carillon"})
    body = payload if content_type == "application/json" else f"payload={payload}"
    answer = client.post("/inbox/slack", body, content_type=content_type)
    assert (answer.status_code, answer.content) == (200, b"ok")
    (message,) = client.get("/inbox/messages").json()
    assert (message["kind"], message["to"], message["text"]) == ("chat", "#ops", "It *burns*")


def test_blocks_without_text_are_read(client: Client) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "Deploy failed"}}, {"type": "divider"}]
    client.post("/inbox/slack", {"blocks": blocks}, content_type="application/json")
    assert Message.objects.get().text == "Deploy failed"


@pytest.mark.parametrize(
    ("body", "complaint"), [("{", b"invalid_payload"), ("[]", b"invalid_payload"), ("{}", b"no_text")]
)
def test_the_slack_webhook_refuses_with_slacks_words(client: Client, body: str, complaint: bytes) -> None:
    answer = client.post("/inbox/slack", body, content_type="application/json")
    assert (answer.status_code, answer.content) == (400, complaint)


def test_the_newest_comes_first_and_delete_empties(client: Client) -> None:
    for text in ("first", "second"):
        client.post("/inbox/slack", {"text": text}, content_type="application/json")
    assert [message["text"] for message in client.get("/inbox/messages").json()] == ["second", "first"]
    assert client.delete("/inbox/messages").status_code == 204
    assert client.get("/inbox/messages").json() == []


def test_only_the_newest_are_kept() -> None:
    Message.objects.bulk_create(Message(kind="chat", to="#ops", text=str(number)) for number in range(KEPT))
    Message.objects.keep(kind="chat", to="#ops", text="newest")
    assert Message.objects.count() == KEPT
    assert not Message.objects.filter(text="0").exists()


def test_the_page_shows_an_html_mail_only_inside_a_sandbox(client: Client) -> None:
    hostile = EmailMessage()
    hostile["Subject"] = "<script>alert(1)</script>"
    hostile.set_content("text")
    hostile.add_alternative('<script>alert("2")</script>', subtype="html")
    mail(hostile.as_bytes(), ["ada@example.com"])
    page = client.get("/inbox/").content.decode()
    assert "<script>alert" not in page
    assert "<iframe sandbox srcdoc=" in page


def test_the_empty_page_says_what_to_do(client: Client) -> None:
    assert "Nothing here yet" in client.get("/inbox/").content.decode()


@pytest.fixture
def smtp_port(live_server: LiveServer, tmp_path: Path) -> Iterator[int]:
    """The inbox's SMTP server in its own process, handing over to a web server of this test."""
    port = free_port()
    command = PROCESSES["inbox"].argv(inbox_smtp_port=port, host=live_server.thread.host, port=live_server.thread.port)
    server = spawn(command, log=tmp_path / "inbox.log")
    wait_until(lambda: _listens(port), what="the inbox's SMTP server")
    yield port
    assert stop(server, patience=5), "SIGTERM has to be enough"


@pytest.mark.django_db(transaction=True)
def test_a_mail_goes_all_the_way_from_smtp_to_the_list(smtp_port: int, client: Client) -> None:
    with smtplib.SMTP("127.0.0.1", smtp_port, timeout=10) as connection:
        connection.send_message(a_mail(To="ada@example.com"))
        connection.send_message(a_mail(To="ada@example.com"), to_addrs=["grace@example.com"])
    received = client.get("/inbox/messages").json()
    assert [message["to"] for message in received] == ["grace@example.com", "ada@example.com"]
    assert "120.50 €" in received[0]["text"]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
