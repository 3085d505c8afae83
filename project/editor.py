"""The code editor of forms: a textarea that a browser with JavaScript turns into an editor that marks wrong lines.

A ValidationError with `params={"line": 3}`, or in JSON `params={"path": "de.subject"}` (project/faults.py), or one
whose message begins with its line (`line 3: …`), is shown at its line of the editor; without JavaScript the message
stands below the textarea with its line number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from django.forms.widgets import Script
from unfold.widgets import UnfoldAdminTextareaWidget

from project import documents

Language: TypeAlias = Literal["json", "yaml", "cel", "html", "liquid"]

_FILES = (
    "codemirror/codemirror.js",
    "codemirror/yaml.js",
    "codemirror/javascript.js",
    "codemirror/xml.js",
    "codemirror/overlay.js",
    "codemirror/matchbrackets.js",
    "codemirror/autorefresh.js",
    "codemirror/show-hint.js",
    "carillon/editor.js",
)
# `defer`: they run in this order when the page has been read. The stubs know only strings.
SCRIPTS: Any = [Script(path, defer=True) for path in _FILES]


class Editor(UnfoldAdminTextareaWidget):
    """A textarea for code of this language."""

    def __init__(self, language: Language, attrs: dict[str, Any] | None = None, *, rows: int = 8) -> None:
        own = {"data-editor": language, "rows": rows, "spellcheck": "false", "autocapitalize": "off", "wrap": "off"}
        super().__init__({**own, **(attrs or {})})

    @property
    def media(self) -> forms.Media:
        return forms.Media(css={"all": ["codemirror/codemirror.css", "codemirror/show-hint.css"]}, js=SCRIPTS)


_TOLD_LINE = re.compile(r"line ([0-9]{1,6})\b")


class _CodeBoundField(forms.BoundField):
    def build_widget_attrs(self, attrs: Any, widget: forms.Widget | None = None) -> Any:
        attrs = super().build_widget_attrs(attrs, widget)
        marks = [
            {"line": line, "message": message}
            for problem in self.errors.as_data()
            if (line := self._line_of(problem))
            for message in problem.messages
        ]
        return {**attrs, "data-problems": json.dumps(marks)} if marks else attrs

    def _line_of(self, problem: ValidationError) -> int | None:
        params = problem.params or {}
        if "line" in params:
            return params["line"]
        if not params.get("path"):
            told = _TOLD_LINE.match(params.get("message", ""))
            return int(told[1]) if told else None
        path = tuple(int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", params["path"]))
        try:
            return documents.read(str(self.value()))[0].line(path)  # JSON is YAML
        except (documents.DocumentError, IndexError):
            return None


class CodeField(forms.CharField):
    """Text in some language, kept as it was written."""

    def __init__(self, *, language: Language = "liquid", rows: int = 8, **kwargs: Any) -> None:
        kwargs["widget"] = Editor(language, rows=rows)
        super().__init__(strip=False, **kwargs)

    def clean(self, value: Any) -> Any:
        return super().clean(value.replace("\r\n", "\n") if isinstance(value, str) else value)

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> forms.BoundField:
        return _CodeBoundField(form, self, field_name)


class JSONCodeField(forms.JSONField):
    """A JSON value. What does not parse is refused with its line; `empty` makes the value of an empty field."""

    def __init__(self, *, empty: Callable[[], Any] | None = None, rows: int = 8, **kwargs: Any) -> None:
        kwargs["widget"] = Editor("json", rows=rows)
        self._empty = empty
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and value.strip():
            try:
                json.loads(value, cls=self.decoder)
            except json.JSONDecodeError as error:
                raise ValidationError(
                    "Line %(line)s, column %(column)s: this is not JSON: %(reason)s.",
                    code="invalid",
                    params={"line": error.lineno, "column": error.colno, "reason": error.msg},
                ) from error
            except (RecursionError, ValueError) as error:
                raise ValidationError(
                    "This is nested too deep, or has a number of thousands of digits.", code="invalid"
                ) from error
        return super().to_python(value)

    def clean(self, value: Any) -> Any:
        value = super().clean(value)
        return self._empty() if value is None and self._empty else value

    def bound_data(self, data: Any, initial: Any) -> Any:
        # Shown again as it was typed, so that the line numbers of the messages hold.
        return initial if self.disabled else data if data is None else InvalidJSONInput(data)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, InvalidJSONInput):
            return value
        return "" if value is None else json.dumps(value, ensure_ascii=False, indent=2, cls=self.encoder)

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> forms.BoundField:
        return _CodeBoundField(form, self, field_name)
