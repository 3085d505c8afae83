"""Export writes what apply reads."""

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from events.models import EventType, Schedule, Source, Subscription
from notifications.models import Channel, Recipient, Template
from project.apply import Outcome, apply, read_files
from workflows.models import Workflow
from workflows.publishing import publish

pytestmark = pytest.mark.django_db


def exported(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("export", *arguments)
    return capsys.readouterr().out


def loaded(folder: Path, text: str) -> set[Outcome]:
    file = folder / "exported.yaml"
    file.write_text(text)
    return {change.outcome for change in apply(read_files([file]))}


def empty_the_database() -> None:
    for model in (Subscription, Schedule, Workflow, Channel, Template, Recipient, EventType, Source):
        model.objects.all().delete()


def test_what_is_exported_makes_the_same_configuration_in_an_empty_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(read_files([Path("examples")]))
    Workflow.objects.filter(name="alert").update(enabled=False)
    Recipient.objects.filter(name="ada").update(
        description="reads: everything # even this\nand more", topics=["on", "1.5"]
    )
    before = exported(capsys)
    empty_the_database()
    assert loaded(tmp_path, before) == {Outcome.CREATED}
    assert exported(capsys) == before
    assert loaded(tmp_path, before) == {Outcome.UNCHANGED}
    assert not Workflow.objects.get(name="alert").enabled


def test_every_field_makes_the_round_trip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """\
kind: Source
name: s
description: d
secret: ${S_SECRET}
rate_limit: 5/s
enabled: false
---
kind: EventType
name: T.x
description: d
schema:
  type: object
example:
  a: null
retired: true
---
kind: Channel
name: a
description: d
type: webhook
settings:
  url: https://example.com/
  secret: ${C_SECRET}
  headers:
    X-Team: ${C_TEAM}
default: true
enabled: false
rate_limit: 1/m
max_in_flight: 3
timeout: 4
retry_schedule:
- 0s
- 1h
fallback: b
---
kind: Channel
name: b
type: email
---
kind: Recipient
name: r
description: d
addresses:
  email: ada@example.com
language: de
time_zone: Europe/Berlin
topics:
- x
preferences:
  ads:
    email: false
quiet_hours:
  to: 07:00
  from: 22:00
enabled: false
---
kind: Template
name: t
description: d
subject: s
text: t
html: h
languages:
  de:
    subject: s
---
kind: Workflow
name: w
description: d
steps:
  - {id: a, action: fail, with: {message: "no"}}
enabled: false
---
kind: Subscription
name: u
description: d
types:
- T.*
sources:
- s
filter: event.data.a == null
workflow: w
enabled: false
"""
    assert loaded(tmp_path, text) == {Outcome.CREATED}
    documents = sorted(exported(capsys).split("---\n"))
    assert documents == sorted(text.split("---\n"))


def test_a_secret_stored_in_clear_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Source.objects.create(name="shop-eu", secret="keep-this")
    hook = "https://example.com/hook/0123456789"
    Channel.objects.create(name="chat", type="slack", settings={"url": hook})
    Channel.objects.create(
        name="partner",
        type="webhook",
        settings={
            "url": "https://example.com/",
            "secret": "whsec_x",
            "headers": {"Authorization": "Bearer y", "X": "${X}"},
        },
    )
    text = exported(capsys)
    assert "secret: ${SOURCE_SHOP_EU_SECRET}\n" in text
    assert "url: ${CHANNEL_CHAT_SETTINGS_URL}\n" in text
    assert "secret: ${CHANNEL_PARTNER_SETTINGS_SECRET}\n" in text
    assert "Authorization: ${CHANNEL_PARTNER_SETTINGS_HEADERS_AUTHORIZATION}\n    X: ${X}\n" in text
    assert "url: https://example.com/\n" in text, "a webhook's address is no secret"
    assert text.count("# A secret is not written here") == 3

    clear = exported(capsys, "Source", "Channel", "--with-secrets")
    assert "secret: keep-this\n" in clear
    assert f"url: {hook}\n" in clear
    assert "#" not in clear


def test_settings_of_an_unknown_type_are_all_taken_for_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    Channel.objects.create(name="old", type="pager", settings={"token": "t0k3n", "retries": 3})
    assert "token: ${CHANNEL_OLD_SETTINGS_TOKEN}\n  retries: 3\n" in exported(capsys, "Channel")


@pytest.mark.parametrize(
    "source",
    [
        'name: w\nsteps: [{id: a, action: fail, with: {message: "no"}}]  # without its kind',
        '{"name": "w", "steps": [{"id": "a", "action": "fail", "with": {"message": "no"}}]}',
    ],
)
@pytest.mark.parametrize("enabled", [True, False])
def test_a_workflow_that_was_written_elsewhere_is_exported_as_a_document(
    source: str, enabled: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(source)
    Workflow.objects.update(enabled=enabled)
    text = exported(capsys, "Workflow")
    assert text.startswith("kind: Workflow\n")
    assert loaded(tmp_path, text) == {Outcome.UNCHANGED}


def test_kinds_are_exported_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    Source.objects.create(name="s")
    EventType.objects.create(name="t")
    assert exported(capsys, "Source") == "kind: Source\nname: s\n"
    with pytest.raises(CommandError, match='unknown kind "Sauce"; known: Channel, EventType'):
        call_command("export", "Sauce")
