"""`manage.py send` takes the way of the API."""

import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from events.models import Event, EventType, Source

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _shop() -> None:
    Source.objects.create(name="local")
    Source.objects.create(name="shop")
    Source.objects.create(name="closed", enabled=False)
    EventType.objects.create(name="order.paid").add_schema({"type": ["object", "null"], "required": ["amount"]})


def test_an_event_is_stored_and_its_trace_named(capsys: pytest.CaptureFixture[str]) -> None:
    call_command(
        "send", "order.paid", "--data", '{"amount": 1}', "--source", "shop/eu", "--subject", "A-1", "--id", "7"
    )
    event = Event.objects.get()
    assert (event.source, event.subject, event.event_id, event.data) == ("/shop/eu", "A-1", "7", {"amount": 1})
    assert event.due_at is not None
    uid, trace = capsys.readouterr().out.splitlines()
    assert uid == str(event.uid)
    assert trace.startswith("http")
    assert trace.endswith(f"/api/v1/events/{uid}/trace")


def test_without_more_it_comes_from_the_local_source_and_has_no_data() -> None:
    call_command("send", "order.paid")
    assert [(event.source, event.data) for event in Event.objects.all()] == [("/local", None)]


def test_data_come_from_a_file_or_from_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data.json"
    file.write_text('{"amount": 2}')
    call_command("send", "order.paid", "--data", f"@{file}")
    monkeypatch.setattr("sys.stdin", io.StringIO('{"amount": 3}'))
    call_command("send", "order.paid", "--data", "-")
    assert sorted(event.data["amount"] for event in Event.objects.all()) == [2, 3]


def test_the_same_id_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        call_command("send", "order.paid", "--id", "7")
    told = capsys.readouterr()
    assert len(set(told.out.splitlines())) == 2
    assert "/local has sent the id 7 before" in told.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["order.payed"], "type: there is no event type 'order.payed'"),
        (["order.paid", "--data", "{}"], 'data: "amount" is a required property'),
        (["order.paid", "--data", "{"], "--data: This is not JSON: "),
        (["order.paid", "--data", "@missing.json"], "--data cannot be read: .*missing.json"),
        (["order.paid", "--source", "shopp"], '--source: unknown source "shopp", did you mean "shop"?'),
        (["order.paid", "--source", "closed"], "--source: closed is disabled."),
        (["order.paid", "--id", "x" * 201], "id: "),
    ],
)
def test_what_is_wrong_is_told_and_nothing_stored(arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told.replace("?", r"\?")):
        call_command("send", *arguments)
    assert not Event.objects.exists()
