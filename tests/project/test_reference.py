"""The reference of configuration and commands says what is there."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.test import Client

from events.brokers.base import Broker
from events.sources import adapters
from events.sources.mapped import Mapped
from notifications.channels import channel_types
from project import ledger
from project.apply import Outcome, apply, read_files
from project.kinds import RowKind, kinds
from project.metrics import HELP
from project.models import Tally
from workflows.definition import Definition

CONFIGURATION = Path("docs/reference/configuration.md").read_text()
COMMANDS = Path("docs/reference/commands.md").read_text()
METRICS = Path("docs/reference/metrics.md").read_text()
LEDGER = Path("docs/how-to/when-the-ledger-does-not-balance.md").read_text()
OURS = ("project", "events", "workflows", "notifications", "examples")


def section(title: str) -> str:
    return CONFIGURATION.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", kinds.names())
def test_every_field_of_a_kind_is_described(name: str) -> None:
    kind = kinds[name]
    spec = kind.spec if issubclass(kind, RowKind) else Definition
    fields = {field.alias or python for python, field in spec.model_fields.items()} - {"kind"}
    described = {
        field
        for row in re.findall(r"^\| (`.*?) \|", section(name), re.MULTILINE)
        for field in re.findall(r"`(\w+)`", row)
    }
    assert fields - described == set()
    assert described - fields - {*channel_types.names(), *adapters.names()} <= {"enabled"}


def test_every_setting_of_a_channel_type_is_described() -> None:
    for name, channel_type in channel_types.items():
        [row] = re.findall(rf"^\| `{name}` \|.*$", section("Channel"), re.MULTILINE)
        assert [setting for setting in channel_type.model_fields if f"`{setting}`" not in row] == []


def test_every_setting_of_an_adapter_is_described() -> None:
    shared = {*Mapped.model_fields, *Broker.model_fields}
    for name, adapter in adapters.items():
        [row] = re.findall(rf"^\| `{name}` \|.*$", section("Source"), re.MULTILINE)
        own = [setting for setting in adapter.model_fields if not (issubclass(adapter, Mapped) and setting in shared)]
        assert [setting for setting in own if f"`{setting}`" not in row] == []
    assert all(f"`{setting}`" in section("Source") for setting in shared)


@pytest.mark.django_db
def test_the_documents_of_the_reference_can_be_applied(tmp_path: Path) -> None:
    file = tmp_path / "reference.yaml"
    file.write_text("---\n".join(re.findall(r"```yaml\n(.*?)```", CONFIGURATION, re.DOTALL)))
    changes = apply(read_files([file]))
    assert {change.kind for change in changes} == set(kinds.names())
    assert {change.outcome for change in changes} == {Outcome.CREATED}


def test_every_command_and_option_is_described() -> None:
    commands = {name: app for name, app in get_commands().items() if str(app).split(".")[0] in OURS}
    assert [name for name in commands if not re.search(rf"`{name}\b", COMMANDS)] == []
    for name in ("apply", "export", "send", "doctor", "ledger", "demo"):
        told = COMMANDS.split(f"\n## {name}\n")[1].split("\n## ")[0]
        parser = load_command_class(str(commands[name]), name).create_parser("manage.py", name)
        own = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
        standard = {
            "--help",
            "--version",
            "--verbosity",
            "--settings",
            "--pythonpath",
            "--traceback",
            "--no-color",
            "--force-color",
            "--skip-checks",
        }
        assert [option for option in own - standard if option not in told] == []


@pytest.mark.django_db
def test_every_metric_is_described_and_no_other(client: Client) -> None:
    Tally.objects.bulk_create(Tally(name=name, value=1) for name in HELP)
    ledger.keep()
    shown = set(re.findall(r"^# TYPE (\w+)", client.get("/metrics").content.decode(), re.MULTILINE))
    assert set(re.findall(r"^\| `(carillon_\w+)` \|", METRICS, re.MULTILINE)) == shown


def test_every_sum_is_described_and_no_other() -> None:
    assert dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", LEDGER, re.MULTILINE)) == {
        name: each.says for name, each in ledger.sums().items()
    }
