"""docs/how-to/receive-webhooks.md: its sources can be applied, and its commands are believed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from pytest_django.live_server_helper import LiveServer

from events.models import Event, Source
from events.sources import adapters
from project.apply import apply, read_files

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "how-to" / "receive-webhooks.md"
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # is a text as well as a key
SECTIONS: Final = {
    section.partition("\n")[0]: section for section in DOCUMENT.read_text().split("\n## ")[1:] if "```yaml" in section
}
CALLED: Final = {title: section for title, section in SECTIONS.items() if "```sh" in section}

pytestmark = pytest.mark.django_db(transaction=True)


def block(section: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(found)


@pytest.fixture
def name(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The section's source, which is applied."""
    text = block(SECTIONS[title], "yaml")
    for variable in re.findall(r"\$\{(\w+)\}", text):
        # GitLab's section calls with the token of before there were signatures.
        monkeypatch.setenv(variable, SECRET if title != "GitLab" else "a token")
    (tmp_path / "source.yaml").write_text(text)
    apply(read_files([tmp_path / "source.yaml"]))
    return Source.objects.get().name


def test_every_adapter_has_its_section_and_all_but_amazons_a_command() -> None:
    described = {re.findall(r"adapter: (\w+)", section)[0] for section in SECTIONS.values()}
    assert described == {name for name, adapter in adapters.items() if adapter.webhooks}
    assert SECTIONS.keys() - CALLED.keys() == {"AWS SNS"}


@pytest.mark.parametrize("title", CALLED)
def test_the_command_is_believed(
    title: str, name: str, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("bash", "curl", "openssl"):
        if not shutil.which(program):
            pytest.skip(f"no {program} here")
    monkeypatch.setenv("CARILLON_URL", live_server.url)
    said = subprocess.run(["bash", "-euc", block(CALLED[title], "sh")], capture_output=True, text=True, check=True)
    told = json.loads(said.stdout)
    assert told.get("duplicate") is False, told
    event = Event.objects.get()
    assert (event.source, event.type) == (f"/{name}", told["type"])
    types = re.findall(r"`([a-z]+(?:\.[a-z_]+)+)`", SECTIONS[title])
    assert event.type in types or event.type in SECTIONS[title].replace("order.${{ body.status }}", "order.paid")


@pytest.mark.parametrize("title", SECTIONS.keys() - CALLED.keys())
def test_a_source_without_a_command_can_be_applied(title: str, name: str) -> None:
    assert name
