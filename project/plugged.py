"""Admin pages of rows that are a plugin and its settings: which one it is comes first, then a form made for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from project.admin import Configuration
from project.editor import JSONCodeField
from project.faults import fault, place_of
from project.plugin import Plugin
from project.registry import Registry
from project.secrets import mask, unmask
from project.settings_form import PREFIX, field_of, form_fields, settings_from
from project.templatetags.facts import code


class PluggedForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """The form of one plugin's rows: a subclass with the fields of its settings is made for each request."""

    kind = ""
    kind_field = ""
    plugin: type[Plugin] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        setattr(self.instance, self.kind_field, self.kind)
        if self.plugin is None:  # the model's settings would be shown as they are
            self.initial["settings"] = mask(self.instance.settings)

    def clean(self) -> None:
        stored = self.instance.settings
        if self.plugin is not None:
            self.instance.settings = settings_from(self.plugin, self.cleaned_data, stored)
        elif "settings" in self.cleaned_data:
            self.instance.settings = unmask(self.cleaned_data["settings"], stored)
        self.settings_changed = self.instance.settings != stored

    def _update_errors(self, errors: ValidationError) -> None:
        # The model speaks of the field `settings`; each of its errors belongs to the form's field for that setting.
        for error in getattr(errors, "error_dict", {}).pop("settings", []):
            path = place_of(error)
            field = field_of(path, self.plugin) if self.plugin else None
            if field is None:
                self.add_error(None if self.plugin else "settings", error)
            elif field not in self.errors:  # what the form itself found missing is said already
                # The label says where it is, unless that is deeper inside.
                self.add_error(field, fault("", error.params["message"]) if field == PREFIX + path else error)
        if not hasattr(errors, "error_dict") or errors.error_dict:
            super()._update_errors(errors)  # type: ignore[misc]


class Plugged(Configuration):
    """Rows whose column `kind_field` names a class of `registry`, and whose `settings` are its fields."""

    registry: ClassVar[Registry[Any]]
    kind_field: ClassVar[str]
    plugged_form: ClassVar[type[PluggedForm]]
    question: ClassVar[str]
    """What the page asks that comes before the form."""

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if self.kind_of(request, None) in self.registry or not self.has_add_permission(request):
            return super().add_view(request, form_url, extra_context)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Add {self.opts.verbose_name}",
            "opts": self.opts,
            "question": self.question,
            "kinds": [
                (name, (kind.__doc__ or "").strip().partition("\n")[0], self._link(request, name))
                for name, kind in self.registry.items()
            ],
        }
        return TemplateResponse(request, "admin/choose_kind.html", context)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kind = self.kind_of(request, obj)
        plugin = self.registry.get(kind)
        if plugin:
            fields: dict[str, Any] = form_fields(plugin, obj.settings if obj else {})
        else:  # one that another release or another app had
            fields = {"settings": JSONCodeField(empty=dict, required=False)}
        made = {**fields, "plugin": plugin, "kind": kind, "kind_field": self.kind_field}
        kwargs["form"] = type(self.plugged_form.__name__, (self.plugged_form,), made)
        return super().get_form(request, obj, change, **kwargs)

    def _link(self, request: HttpRequest, kind: str) -> str:
        """The form of this kind, with what else the address says."""
        query = request.GET.copy()
        query[self.kind_field] = kind
        return f"?{query.urlencode()}"

    def kind_of(self, request: HttpRequest, obj: Any) -> str:
        """The name of the row's class, which an address may say as long as there is no row."""
        return str(getattr(obj, self.kind_field) if obj else request.GET.get(self.kind_field, ""))

    def setting_fields(self, request: HttpRequest, obj: Any) -> list[str]:
        """The form's fields for the settings, or what is shown to people who may not change them."""
        if obj is not None and not self.has_change_permission(request, obj):
            return ["shown_settings"]
        plugin = self.registry.get(self.kind_of(request, obj))
        return [PREFIX + name for name in plugin.model_fields] if plugin else ["settings"]

    def changed_columns(self, form: Any) -> Sequence[str]:
        return [*form.changed_data, *(["settings"] if form.settings_changed else [])]

    @admin.display(description="settings")
    def shown_settings(self, row: Any) -> SafeString:
        return code(mask(row.settings))
