"""What the admin's pages have in common: rows that people edit, and rows that only tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.db import models
from django.db.models import Field, Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminTextareaWidget

from project import changes
from project.bounded import count
from project.editor import Editor, JSONCodeField


def goes_to(page: str, key: Any, shown: object) -> SafeString:
    """A link to the page of a row: `goes_to("events_event", uid, "order.paid")`."""
    return format_html(
        '<a class="text-link" href="{}">{}</a>', reverse(f"admin:{page}_change", args=[quote(str(key))]), shown
    )


def confirm(title: str, description: str, button: str) -> Any:
    """The dialog of an action that asks before it acts, by POST: a link alone must not change anything."""
    return {"title": title, "description": description, "form_class": None, "form_submit_text": button}


def only(options: ModelAdmin, request: HttpRequest, object_id: str) -> QuerySet[Any]:
    """The row whose page this is, for what takes many. Raises Http404."""
    row = options.get_object(request, unquote(object_id))
    if row is None:
        raise Http404(f"There is no such {options.opts.verbose_name}.")
    return options.get_queryset(request).filter(pk=row.pk)


def done(request: HttpRequest, url: str) -> HttpResponse:
    """The answer to an action that was confirmed in a dialog: go there."""
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": url})
    return redirect(url)


class Remembered(ModelAdmin):
    """Rows whose changes the audit log keeps: their history tells what was what before."""

    object_history_template: Any = "admin/history.html"

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        told = changes.history_of(row, [inline.model for inline in self.inlines]) if row else []
        return super().history_view(request, object_id, {**(extra_context or {}), "changes": told})


class Configuration(Remembered):
    """Rows that people edit. Whatever is of this class is watched by the audit log (project/audit.py)."""

    formfield_overrides: ClassVar[Any] = {models.JSONField: {"form_class": JSONCodeField, "widget": Editor("json")}}
    warn_unsaved_form = True
    shown_instead: ClassVar[dict[str, str]] = {}
    """What people who may not change a row see in place of fields that are secret, or exist only in the form."""

    list_filter_submit = True
    empty_message = "Nothing here yet."

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, models.JSONField) and not db_field.null:
            kwargs["empty"] = db_field.get_default
        if db_field.name == "description":
            kwargs["widget"] = UnfoldAdminTextareaWidget({"rows": 2})
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_ordering(self, request: HttpRequest) -> Any:
        return super().get_ordering(request) or self.opts.ordering  # a count beside each row would lose the model's

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row by its key, or by its name: so pages can link to what they know only by name."""
        found = super().get_object(request, object_id, from_field)
        if found is None and from_field is None and self.opts.get_field("name").unique:
            return super().get_object(request, object_id, "name")
        return found

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What goes along, or stands in the way. Facts that do are counted to a bound: Django would load each one."""
        kept = []
        for relation in self.opts.related_objects:
            model: Any = relation.related_model
            facts = isinstance(self.admin_site._registry.get(model), Facts)
            if facts and getattr(relation, "on_delete", None) is models.PROTECT:
                number = count(model._default_manager.filter(**{f"{relation.field.name}__in": objs}))
                if number:
                    name = model._meta.verbose_name if number.n == 1 else model._meta.verbose_name_plural
                    kept.append(f"{number} {name}")
        return ([], {}, set(), kept) if kept else super().get_deleted_objects(objs, request)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """What the address of a new row's form fills in: `?name=ada&addresses={"email": …}`."""
        given: dict[str, Any] = super().get_changeform_initial_data(request)
        for name, field in self.get_form(request).base_fields.items():
            if name in given and isinstance(field, forms.JSONField):
                try:
                    given[name] = json.loads(given[name])
                except ValueError:
                    del given[name]
        return given

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """Whoever came from the page of getting started goes back to it."""
        if request.GET.get("then") == "start":
            return redirect("start")
        return super().response_post_save_add(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (title, {**options, "fields": [self.shown_instead.get(name, name) for name in options["fields"]]})
            for title, options in fieldsets
        ]

    def has_operate_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether this person may have it do something that leaves what it says: pause it, fire it, send a test."""
        permission = f"{self.opts.app_label}.operate_{self.opts.model_name}"  # project/roles.py
        return bool(self.has_change_permission(request, obj) or request.user.has_perm(permission))

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *self.shown_instead.values())

    def save_model(self, request: HttpRequest, obj: Model, form: forms.ModelForm[Any], change: bool) -> None:
        if change:
            # Only what was changed here: other columns may have been written since the page was opened.
            names = {field.name for field in obj._meta.concrete_fields}
            obj.save(update_fields=[name for name in self.changed_columns(form) if name in names])
        else:
            obj.save()

    def changed_columns(self, form: forms.ModelForm[Any]) -> Sequence[str]:
        """The model's fields that the form changed."""
        return form.changed_data


class Facts(ModelAdmin):
    """Rows that tell what happened. Nobody adds, changes or deletes them here; they are never counted whole."""

    show_full_result_count = False
    paginator = InfinitePaginator
    list_filter_submit = True
    list_per_page = 50
    list_disable_select_all = True
    sortable_by: Sequence[str] = ()  # newest first, by the key: any other order would sort the whole table
    exact_search: Sequence[str] = ()
    prefix_search: Sequence[str] = ()
    empty_message = "Nothing happened yet."

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Whether this person may use the actions: retry, cancel …"""
        return bool(request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}"))

    def tell(self, obj: Any) -> dict[str, Any]:
        """What the row's page shows: more context for its template. With `live` the page follows along."""
        return {}

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.get_object(request, unquote(object_id))
        if obj is not None and self.has_view_permission(request, obj):
            told = self.tell(obj)
            if "live" in told and request.GET.get("seen") == told["live"].seen:
                return HttpResponse(status=204)  # an open page asks, and shows that already
            told["may_operate"] = self.has_operate_permission(request, obj)
            extra_context = {"original": obj, **told, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, extra_context)

    @staticmethod
    def is_page(request: HttpRequest) -> bool:
        """Whether this request is for one row, not for the list."""
        return bool(request.resolver_match and "object_id" in request.resolver_match.kwargs)

    @staticmethod
    def uid_in(term: str) -> UUID | None:
        """The uid that somebody looks for, if it is one."""
        try:
            return UUID(term.strip())
        except ValueError:
            return None

    def get_search_fields(self, request: HttpRequest) -> Sequence[str]:
        return [self.opts.pk.name, *self.exact_search, *self.prefix_search]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Whole values and beginnings, which indexes and newest-first walks can serve; Django would look anywhere."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if (uid := self.uid_in(term)) and isinstance(self.opts.pk, models.UUIDField):
            return queryset.filter(pk=uid), False
        wanted = models.Q()
        for field in self.exact_search:
            wanted |= models.Q((field, term))
        for field in self.prefix_search:
            wanted |= models.Q((f"{field}__startswith", term))
        return queryset.filter(wanted), False


admin.site.index_title = "Overview"
