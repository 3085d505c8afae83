"""The registry finds its members by itself and refuses what is ambiguous or unknown."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from project.registry import Registry, UnknownName

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules that can be imported until the test ends."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write(path: str, source: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def plugins(write: Write, *, app_module: str | None = None) -> Registry[Any]:
    """A registry that stands in the package `plugins` itself, as real ones do."""
    arguments = f', app_module="{app_module}"' if app_module else ""
    write(
        "plugins/__init__.py",
        f"""
        from project.registry import Registry
        registry = Registry("channel type", package="plugins"{arguments})
        """,
    )
    for name in ("email", "slack"):
        write(
            f"plugins/{name}.py",
            f"""
            from plugins import registry

            @registry.register("{name}")
            class Member:
                name: str
            """,
        )
    from plugins import registry  # type: ignore[import-not-found]  # written by this function

    assert isinstance(registry, Registry)
    return registry


def test_members_are_found_at_first_use(write: Write) -> None:
    registry = plugins(write)
    assert "plugins.slack" not in sys.modules
    assert registry.names() == ["email", "slack"]
    assert registry["slack"].name == "slack"
    assert "slack" in registry
    assert "pager" not in registry
    assert [name for name, _ in registry.items()] == list(registry) == ["email", "slack"]


def test_modules_in_subpackages_are_found(write: Write) -> None:
    registry = plugins(write)
    write("plugins/chat/__init__.py", "")
    write("plugins/chat/irc.py", "import plugins\n@plugins.registry.register('irc')\nclass Irc: pass\n")
    assert "irc" in registry


def test_an_unknown_name_is_told_the_known_ones(write: Write) -> None:
    with pytest.raises(UnknownName, match=r'^unknown channel type "x"; known: email, slack$'):
        plugins(write)["x"]


def test_a_name_is_registered_once(write: Write) -> None:
    registry = plugins(write)
    write("plugins/other.py", "import plugins\n@plugins.registry.register('slack')\nclass Other: pass\n")
    with pytest.raises(ValueError, match=r'channel type "slack" is registered twice: plugins\.\w+\.\w+ and plugins'):
        registry.names()


def test_a_member_that_fails_to_import_fails_again_and_is_found_when_mended(write: Write) -> None:
    registry = plugins(write)
    write("plugins/later.py", "import plugins\n@plugins.registry.register('later')\nclass Later: pass\n1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            registry.names()
    write("plugins/later.py", "import plugins\n@plugins.registry.register('later')\nclass Later: pass\n")
    assert registry.names() == ["email", "later", "slack"]


def test_members_in_installed_apps_are_found(write: Write, settings: Settings) -> None:
    registry = plugins(write, app_module="actions")
    write("billing/__init__.py", "")
    write("billing/actions.py", "import plugins\n@plugins.registry.register('billing.charge')\nclass Charge: pass\n")
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "billing"]
    assert "billing.charge" in registry
