"""POST /hooks/<source>, over real HTTP."""

from __future__ import annotations

import html

import pytest
import requests
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from events.models import Event, Original, Source
from tests.events.conftest import Producer
from tests.events.sources.vendors import VENDORS, github
from tests.events.test_answers import refused

pytestmark = pytest.mark.django_db(transaction=True)

BODY = VENDORS["github"].body
SECRET = "shh"


@pytest.fixture
def url(live_server: LiveServer) -> str:
    source = Source.objects.create(name="forge", adapter="github", secret=SECRET)
    source.bring_types()
    return f"{live_server.url}/hooks/forge"


def call(url: str, body: bytes = BODY, secret: str = SECRET, **headers: str) -> requests.Response:
    return requests.post(url, data=body, headers={**github(body, secret, timezone.now()), **headers}, timeout=30)


def test_a_call_is_answered_like_an_event_of_the_api(url: str) -> None:
    first, again = call(url), call(url)
    assert (first.status_code, again.status_code) == (202, 200)
    event = Event.objects.get()
    told = {"uid": str(event.uid), "id": event.event_id, "source": "/forge", "type": event.type}
    assert (first.json(), again.json()) == ({**told, "duplicate": False}, {**told, "duplicate": True})
    assert first.headers["Content-Type"] == "application/json"


def test_no_cookie_or_token_of_ours_is_asked_for_nor_given(url: str) -> None:
    assert "Set-Cookie" not in call(url).headers
    strict = Client(enforce_csrf_checks=True)
    headers = dict(github(BODY, SECRET, timezone.now()))
    answer = strict.post("/hooks/forge", BODY, content_type=headers.pop("Content-Type"), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png;q=nonsense"])
def test_what_the_sender_accepts_does_not_matter(url: str, accept: str) -> None:
    assert call(url, Accept=accept).status_code == 202
    refused(call(url, secret="another", Accept=accept), 401)


def test_a_wrong_signature_is_told_how_to_do_better(url: str) -> None:
    answer = call(url, secret="another")
    refused(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Signature")
    assert not Event.objects.exists()


@pytest.mark.parametrize("name", ["nobody", "shop", "forge/x", "forge/", "%00", "%CE%A9"])
def test_what_is_no_webhook_source_is_not_found(url: str, shop: Producer, name: str) -> None:
    """Nor is `shop`, which sends by the API."""
    answer = call(url.removesuffix("forge") + name)
    assert answer.status_code == 404
    assert not Event.objects.exists()


def test_only_post_is_allowed(url: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        refused(requests.request(method, url, timeout=30), 405)
    assert requests.head(url, timeout=30).status_code == 405


def test_a_variable_that_is_not_set_has_the_sender_try_again(url: str) -> None:
    Source.objects.create(name="unset", adapter="github", secret="${NOT_SET_ANYWHERE}")
    answer = call(url.replace("forge", "unset"))
    problem = refused(answer, 503)
    assert answer.headers["Retry-After"] == "60"
    assert "NOT_SET" not in problem["detail"]  # whoever calls does not learn how we are set up


def test_while_postgresql_cannot_commit_the_sender_is_asked_to_try_again(url: str) -> None:
    def read_only(state: str) -> None:
        with connection.cursor() as cursor:  # for the sessions that begin from now on
            name = connection.ops.quote_name(connection.settings_dict["NAME"])
            cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {state}")

    read_only("on")
    try:
        answer = call(url)
    finally:
        read_only("off")
    refused(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert not Event.objects.exists()
    assert call(url).status_code == 202


def test_the_original_can_be_read_by_who_may_read_events(url: str, shop: Producer) -> None:
    uid = call(url).json()["uid"]
    original = shop.get(f"/{uid}/original")
    assert original.json() == {
        "headers": Original.objects.get().headers,
        "body": BODY.decode(),
    }
    assert original.json()["headers"]["x-github-event"] == "workflow_run"
    sent = shop.send({"type": "note"}).json()["uid"]
    refused(shop.get(f"/{sent}/original"), 404)


def test_the_page_of_the_event_shows_the_call_as_it_came(url: str, admin_client: Client) -> None:
    uid = call(url).json()["uid"]
    page = admin_client.get(f"/admin/events/event/{uid}/change/").content.decode()
    assert "What brought it, as it came in" in page
    assert "x-github-event" in page
    assert html.escape(BODY.decode()[:40]) in page
