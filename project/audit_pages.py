"""The admin's pages of the audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from project import changes
from project.admin import Configuration, Facts, goes_to
from project.models import AuditEntry

admin.site.unregister(LogEntry)

COLOURS: Final = {"added": "success", "changed": "info", "deleted": "danger"}


class ModelFilter(DropdownFilter):
    title = "of what"
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted(((str(kind.pk), kind.name) for kind in visible_to(request.user)), key=lambda choice: choice[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = [kind for kind in visible_to(request.user) if str(kind.pk) == self.value()]
        return queryset.filter(content_type__in=chosen) if self.value() else queryset


class UserFilter(DropdownFilter):
    title = "by whom"
    parameter_name = "user"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in User.objects.filter(is_staff=True).values_list("username", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(actor__username=self.value()) if self.value() else queryset


class ChangedFilter(DropdownFilter):
    """Changes of the last hour, day …"""

    title = "time"
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "Last hour"), ("24", "Last 24 hours"), ("168", "Last 7 days"), ("720", "Last 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if (value := self.value()) and value.isdecimal():
            return queryset.filter(timestamp__gte=timezone.now() - timedelta(hours=min(int(value), 24 * 365)))
        return queryset


def visible_to(user: Any) -> list[ContentType]:
    """The models whose changes this person may see: those whose rows they may see."""
    found = [it for it in auditlog.get_models() if user.has_perm(f"{it._meta.app_label}.view_{it._meta.model_name}")]
    return list(ContentType.objects.get_for_models(*found).values())


@admin.register(AuditEntry)
class AuditEntryAdmin(Facts):
    list_display = ("timestamp", "person", "deed", "of_row", "fields_changed")
    list_filter = (ModelFilter, UserFilter, ChangedFilter)
    list_select_related = ("actor", "content_type")
    exact_search = ("actor__username",)
    prefix_search = ("object_repr",)
    search_help_text = "How a row's name begins, or a user"
    fields = ("action",)
    empty_message = "Nobody changed the configuration yet."

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        entries: QuerySet[AuditEntry] = super().get_queryset(request)
        return entries.filter(content_type__in=visible_to(request.user))

    @admin.display(description="who")
    def person(self, entry: AuditEntry) -> SafeString:
        return format_html('<span class="whitespace-nowrap">{}</span>', changes.who(entry))

    @display(description="did", label=COLOURS)
    def deed(self, entry: AuditEntry) -> str:
        return changes.VERBS[entry.action]

    @admin.display(description="what")
    def of_row(self, entry: AuditEntry) -> SafeString:
        return page_of(entry)

    @admin.display(description="fields")
    def fields_changed(self, entry: AuditEntry) -> str:
        return ", ".join(difference.field for difference in changes.differences(entry))

    def tell(self, entry: AuditEntry) -> dict[str, Any]:
        return {
            "title": changes.what(entry).capitalize(),
            "show_history": False,
            "entry": entry,
            "who": changes.who(entry),
            "deed": (deed := changes.VERBS[entry.action]),
            "colour": COLOURS[deed],
            "row": page_of(entry),
            "differences": changes.differences(entry, changes.version_before(entry)),
        }


def page_of(entry: LogEntry) -> Any:
    """The row that was changed, with a link to its page, or to the page of what it is a part of."""
    shown = f"{entry.content_type.name} {entry.object_repr}"
    model = entry.content_type.model_class()
    if model is None or entry.action == LogEntry.Action.DELETE:
        return shown
    if model in admin.site._registry:
        return goes_to(f"{model._meta.app_label}_{model._meta.model_name}", entry.object_pk, shown)
    for field in model._meta.concrete_fields:
        whole = field.related_model
        # A page of configuration is also found by the row's name, which is what is kept of a reference.
        if isinstance(admin.site._registry.get(whole), Configuration) and field.name in (entry.changes or {}):
            return goes_to(f"{whole._meta.app_label}_{whole._meta.model_name}", entry.changes[field.name][1], shown)
    return shown
