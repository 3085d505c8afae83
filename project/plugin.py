"""Classes whose fields are settings that people fill in: channel types, adapters of sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self, TypeAlias, get_args

from django.conf import settings as project_settings
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from project.secrets import UnknownVariable, references, resolve_environment

Json: TypeAlias = Any


class SettingsError(ValueError):
    """Settings are not what their class takes; `problems` are (field path, message) pairs."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" if path else message for path, message in problems))
        self.problems = problems


class Plugin(BaseModel):
    """The base of such classes. Unknown settings are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: ClassVar[str]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The class filled from stored settings, with every ${NAME} replaced.

        Raises:
            SettingsError: a variable is not set, or a field is unknown, missing or wrong.
        """
        try:
            return cls.model_validate(resolve_environment(dict(settings)))
        except UnknownVariable as error:
            raise SettingsError([("", str(error))]) from error
        except ValidationError as error:
            raise SettingsError([_explain(cls, problem) for problem in error.errors()]) from error

    @classmethod
    def problems(cls, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Everything that is wrong with settings somebody wants to save, as (field path, message) pairs."""
        try:
            return list(cls.from_settings(settings).check())
        except SettingsError as error:
            return error.problems

    def check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong with settings that are saved, beyond the fields' types, as (field, message) pairs."""
        return ()


def problems_here(plugin: type[Plugin], settings: Json) -> Iterator[tuple[str, str]]:
    """What is wrong with settings that are saved here and may be used elsewhere: (path, message) pairs.

    A variable may be set where they are used and not where they are saved; `doctor` tells which are missing.
    """
    if not isinstance(settings, dict):
        yield "settings", 'must be an object like {"url": "…"}'
        return
    unset = {name for name in references(settings) if name not in project_settings.ENVIRONMENT}
    open_ones = {name for name, value in settings.items() if unset.intersection(references(value))}
    known = {name: value for name, value in settings.items() if name not in open_ones}
    for path, message in plugin.problems(known):
        if path.partition(".")[0] not in open_ones:
            yield f"settings.{path}" if path else "settings", message


def concealed(
    plugin: type[Plugin] | None, settings: Mapping[str, Json], conceal: Callable[[str, str], str]
) -> dict[str, Json]:
    """The settings with `conceal(path, value)` in place of what is secret; without the class (None), all is."""
    fields = plugin.model_fields if plugin else None
    return {
        name: _concealed(value, f"settings.{name}", conceal)
        if fields is None or (name in fields and holds_secrets(fields[name].annotation))
        else value
        for name, value in settings.items()
    }


def holds_secrets(annotation: Any) -> bool:
    """Whether a field of this type may hold a secret."""
    return annotation is SecretStr or any(map(holds_secrets, get_args(annotation)))


def _concealed(value: Json, path: str, conceal: Callable[[str, str], str]) -> Json:
    if isinstance(value, dict):
        return {name: _concealed(item, f"{path}.{name}", conceal) for name, item in value.items()}
    if isinstance(value, list):
        return [_concealed(item, f"{path}.{index}", conceal) for index, item in enumerate(value)]
    return conceal(path, value) if isinstance(value, str) else value


def _explain(cls: type[Plugin], problem: Any) -> tuple[str, str]:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return path, f"unknown setting; known: {', '.join(cls.model_fields) or 'none'}"
    return path, str(problem["msg"]).removeprefix("Value error, ")
