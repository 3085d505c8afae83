"""Form fields for the settings of a plugin, generated from its pydantic class, and back.

Titles and descriptions are labels and help texts. A SecretStr is a password field: it never shows what is stored, and
left empty it keeps it. Lists of texts are written one a line; what has no field of its own is JSON. Every text may be
`${NAME}`, which is read from the environment when the plugin is used, so the plugin itself says what is wrong.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from django import forms
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordToggleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from project.durations import format_duration
from project.editor import JSONCodeField
from project.plugin import holds_secrets
from project.secrets import mask, unmask

Settings = Mapping[str, Any]

PREFIX: Final = "settings__"
"""What stands before a setting's name in the form."""


def form_fields(plugin: type[BaseModel], stored: Settings) -> dict[str, forms.Field]:
    """A form field for each setting, in the class's order, that shows what is stored (secrets masked)."""
    return {PREFIX + name: _field(name, info, stored.get(name)) for name, info in plugin.model_fields.items()}


def settings_from(plugin: type[BaseModel], cleaned: Settings, stored: Settings) -> dict[str, Any]:
    """The settings that a filled form means; what was left empty is left out, so that its default holds."""
    settings = {}
    for name, info in plugin.model_fields.items():
        value = cleaned.get(PREFIX + name)
        if holds_secrets(info.annotation):
            value = unmask(value, stored.get(name))
        if value not in (None, "", [], {}):
            settings[name] = value
    return settings


def field_of(path: str, plugin: type[BaseModel]) -> str | None:
    """The form field that a problem at this path of the settings belongs to; None: to the form as a whole."""
    name = re.split(r"[.\[]", path, maxsplit=1)[0]
    return PREFIX + name if name in plugin.model_fields else None


class SecretInput(UnfoldAdminPasswordToggleWidget):
    """A password field that tells whether something is stored, never what. Empty keeps it; the tick removes it."""

    template_name = "facts/secret.html"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"autocomplete": "new-password", **(attrs or {})}, render_value=True)
        self.stored = ""
        self.removable = True

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        typed = value if value and value != self.stored else None  # before a mistake elsewhere in the form
        context: dict[str, Any] = super().get_context(name, typed, attrs)
        # `${NAME}` only says where the secret is.
        shown = self.stored if re.fullmatch(r"\$\{\w+\}", self.stored) else mask(self.stored)
        context["widget"] |= {"stored": bool(self.stored), "removable": self.stored and self.removable}
        context["widget"]["attrs"]["placeholder"] = shown
        return context

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return "" if data.get(f"{name}-remove") else data.get(name) or self.stored

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False


class SecretField(forms.CharField):
    """A secret. `stored` is what it is now."""

    widget = SecretInput

    def __init__(self, *, stored: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.show(stored)

    def show(self, stored: str) -> None:
        """Take this as what is stored."""
        self.stored = stored
        self.widget.stored = stored
        self.widget.removable = not self.required

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data != self.stored)


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    widget = UnfoldAdminTextareaWidget

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (value or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(list(initial or []) != self.to_python(data))


def _field(name: str, info: FieldInfo, stored: Any) -> forms.Field:
    kind = _without_none(info.annotation)
    default = info.get_default(call_default_factory=True, validated_data={}) if not info.is_required() else None
    common: dict[str, Any] = {
        "label": info.title or name.replace("_", " ").capitalize(),
        "help_text": info.description or "",
        "required": info.is_required(),
        "initial": default.value if isinstance(default, Enum) else default,
    }
    if stored is not None:
        common["initial"] = stored
    if kind is SecretStr:
        return SecretField(**{**common, "stored": stored or "", "initial": None})
    if kind is bool:
        return forms.BooleanField(**{**common, "required": False, "widget": UnfoldBooleanSwitchWidget})
    if isinstance(kind, type) and issubclass(kind, int | float) and not issubclass(kind, Enum):
        return _number(kind, info, common)
    if choices := _choices(kind):
        blank = [] if info.is_required() else [("", "—")]
        return forms.ChoiceField(**common, choices=[*blank, *choices], widget=UnfoldAdminSelectWidget)
    if get_origin(kind) in (list, tuple, set, frozenset) and get_args(kind)[:1] == (str,):
        return LinesField(**{**common, "initial": list(common["initial"] or [])})
    if get_origin(kind) is not None or (isinstance(kind, type) and issubclass(kind, BaseModel | dict | list)):
        shown = mask(stored) if stored is not None and holds_secrets(kind) else _plain(common["initial"])
        return JSONCodeField(**{**common, "initial": shown or None, "rows": 4})
    return forms.CharField(**{**common, "initial": _plain(common["initial"])}, widget=UnfoldAdminTextInputWidget)


def _number(kind: type, info: FieldInfo, common: dict[str, Any]) -> forms.Field:
    # Only a help while typing: the plugin itself says what is wrong, also about `gt` and `lt`.
    least: Any = next((item.ge for item in info.metadata if isinstance(item, Ge)), None)
    most: Any = next((item.le for item in info.metadata if isinstance(item, Le)), None)
    if issubclass(kind, int):
        return forms.IntegerField(**common, min_value=least, max_value=most, widget=UnfoldAdminIntegerFieldWidget)
    return forms.FloatField(**common, min_value=least, max_value=most, widget=UnfoldAdminDecimalFieldWidget)


def _choices(kind: Any) -> list[tuple[Any, str]]:
    if get_origin(kind) is Literal:
        return [(choice, str(choice)) for choice in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [(member.value, member.name.replace("_", " ").lower()) for member in kind]
    return []


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        return kinds[0] if len(kinds) == 1 else str  # one of several: text, and the plugin decides
    return annotation


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return format_duration(value)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
