"""The admin of channels with their settings as form fields, of templates, recipients, and deliveries with attempts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget

from notifications import delivery, story, template_pages
from notifications.channel_pages import ChannelPages
from notifications.channels import channel_types
from notifications.health import word
from notifications.models import Channel, Delivery, DeliveryState, Recipient, Template
from notifications.searching import DELIVERIES, STATES
from project.admin import Configuration, confirm, done, only
from project.doorbell import ring
from project.editor import CodeField
from project.fact_lists import PeriodFilter, RangeFilter, SearchedFacts, TermFilter
from project.plugged import Plugged, PluggedForm
from project.templatetags.facts import COLOURS


class ChannelForm(PluggedForm):
    class Meta:
        model = Channel
        fields = (
            "name",
            "description",
            "default",
            "enabled",
            "rate_limit",
            "max_in_flight",
            "timeout",
            "retry_schedule",
            "fallback",
        )


@admin.register(Channel)
class ChannelAdmin(ChannelPages, Plugged):
    registry = channel_types
    kind_field = "type"
    plugged_form = ChannelForm
    question = "What kind of channel is it? Its settings come next."
    list_display = ("name", "type", "health", "default", "rate_limit", "fallback", "description")
    list_filter = ("type", "enabled")
    list_select_related = ("fallback",)
    search_fields = ("name", "description")
    readonly_fields = ("type", "shown_settings")
    formfield_overrides = Configuration.formfield_overrides | {ArrayField: {"widget": UnfoldAdminTextInputWidget}}
    actions = ("disable_selected", "enable_selected", "clear_selected")
    actions_detail = (
        "test",
        "pause",
        "resume",
        "clear_hold",
        {"title": "More", "icon": "more_vert", "items": ["recover", "rotate", "forget_secret", "enable", "disable"]},
    )
    empty_message = "A channel is a way to reach people: mail, chat, a webhook."

    # --- the form -------------------------------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [
            (None, {"fields": ("name", "description", "type", "enabled", "default")}),
            (
                "Settings",
                {
                    "fields": self.setting_fields(request, obj),
                    "description": "${NAME} is read from the environment when something is sent.",
                },
            ),
            ("Sending", {"fields": ("rate_limit", "max_in_flight", "timeout", "retry_schedule", "fallback")}),
        ]

    # --- health ---------------------------------------------------------------------------------------------------

    @display(description="health", label=COLOURS)
    def health(self, channel: Channel) -> str:
        return word(channel)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        channel = self.get_object(request, unquote(object_id))
        if channel is not None and self.has_view_permission(request, channel):
            extra_context = {**self.tell(request, channel), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, extra_context)

    @admin.action(description="Disable", permissions=["change"])
    def disable_selected(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        self._set(request, channels, "Disabled", enabled=False)

    @admin.action(description="Enable", permissions=["change"])
    def enable_selected(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        self._set(request, channels, "Enabled", enabled=True)

    @admin.action(description="Clear hold", permissions=["operate"])
    def clear_selected(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        self._clear(request, channels)

    @action(
        description="Disable",
        icon="block",
        permissions=["change"],
        dialog=confirm(
            "Disable this channel?",
            "What is due for it fails at once, saying so, or goes to the fallback. To have it wait instead, pause it.",
            "Disable",
        ),
    )
    def disable(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self.disable_selected(request, only(self, request, object_id))
        return done(request, reverse("admin:notifications_channel_change", args=[object_id]))

    @action(
        description="Enable",
        icon="check_circle",
        permissions=["change"],
        dialog=confirm(
            "Enable this channel?", "It sends again. What failed meanwhile can be sent again by Recover.", "Enable"
        ),
    )
    def enable(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self.enable_selected(request, only(self, request, object_id))
        return done(request, reverse("admin:notifications_channel_change", args=[object_id]))

    @action(
        description="Clear hold",
        icon="lock_open",
        permissions=["operate"],
        dialog=confirm("Clear the hold?", "The channel is tried again at once, as if it had not failed.", "Clear hold"),
    )
    def clear_hold(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self._clear(request, only(self, request, object_id))
        return done(request, reverse("admin:notifications_channel_change", args=[object_id]))

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Only what changes something."""
        channel = self.get_object(request, unquote(str(object_id)))
        if channel is None:
            return []
        useless = {
            *self.useless(channel),
            "enable" if channel.enabled else "disable",
            *(["clear_hold"] if channel.hold_until is None and channel.failing_since is None else []),
        }
        found = super().get_actions_detail(request, object_id)
        return [it for it in found if it.method.original_function_name not in useless]

    def _clear(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        self._set(
            request,
            channels,
            "Hold cleared",
            hold_until=None,
            hold_reason="",
            failures=0,
            failing_since=None,
            next_at=Now(),
        )

    def _set(self, request: HttpRequest, channels: QuerySet[Channel], said: str, **columns: Any) -> None:
        rows = list(channels)
        for channel in rows:
            for name, value in columns.items():
                setattr(channel, name, value)
            channel.save(update_fields=list(columns))
            self.log_change(request, channel, f"{said}.")
        ring("notifications.deliver", "admin")
        self.message_user(request, f"{said}: {', '.join(map(str, rows))}.")


@admin.register(Template)
class TemplateAdmin(Configuration):
    compressed_fields = False
    change_form_outer_after_template = "admin/notifications/template/preview.html"
    list_display = ("name", "description", "subject", "in_languages")
    search_fields = ("name", "description", "subject")
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        (
            "What it says",
            {"fields": ("subject", "text", "html"), "description": "In Liquid: {{ event.data.order_id }}."},
        ),
        ("In other languages", {"fields": ("languages",)}),
    )
    empty_message = "A template is what a notification says."

    class Media:
        js = (Script("carillon/preview.js", defer=True),)

    def get_custom_urls(self) -> Any:
        return (
            ("preview/", "notifications_template_preview", self.preview),
            ("send-test/", "notifications_template_send_test", self.send_test),
        )

    def preview(self, request: HttpRequest, **_: Any) -> HttpResponse:
        self._edited(request)
        return template_pages.preview(request)

    def send_test(self, request: HttpRequest, **_: Any) -> HttpResponse:
        template = self._edited(request)
        answer, sent = template_pages.send(request)
        if sent is not None and template is not None:
            self.log_change(request, template, f"Sent a test: {sent.uid}.")
        return answer

    def _edited(self, request: HttpRequest) -> Template | None:
        """The template that a request from its page is about; None: a new one. Raises PermissionDenied, Http404."""
        key = request.GET.get("template", "").replace("\0", "")
        template = only(self, request, key).get() if key else None
        if not self._may_edit(request, template):
            raise PermissionDenied
        return template

    def _may_edit(self, request: HttpRequest, template: Template | None) -> bool:
        return self.has_change_permission(request, template) if template else self.has_add_permission(request)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        template = context.get("original")
        if self._may_edit(request, template):
            context["sample"] = template_pages.new_sample(request, template)
            context["readers"] = template_pages.readers(request)
            context["media"] += context["sample"].media
        return super().render_change_form(request, context, *args, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in ("subject", "text", "html"):
            return CodeField(
                language="html" if db_field.name == "html" else "liquid",
                rows={"subject": 1, "text": 8, "html": 10}[db_field.name],
                required=False,
                label=db_field.verbose_name.capitalize() if db_field.name != "html" else "HTML",
                help_text=db_field.help_text,
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @display(description="languages", label=True)
    def in_languages(self, template: Template) -> list[str]:
        return sorted(template.languages)


@admin.register(Recipient)
class RecipientAdmin(Configuration):
    list_display = ("name", "description", "reached_by", "hears_of", "enabled")
    list_filter = ("enabled", "language")
    search_fields = ("name", "description")
    fieldsets = (
        (None, {"fields": ("name", "description", "enabled")}),
        ("How to reach them", {"fields": ("addresses", "topics", "language", "time_zone")}),
        ("What not to send, and when", {"fields": ("preferences", "quiet_hours")}),
    )
    formfield_overrides = Configuration.formfield_overrides | {ArrayField: {"widget": UnfoldAdminTextInputWidget}}
    empty_message = "A recipient is a person or a group mailbox that workflows can tell something."

    @display(description="addresses", label=True)
    def reached_by(self, recipient: Recipient) -> list[str]:
        return sorted(recipient.addresses)

    @display(description="topics", label=True)
    def hears_of(self, recipient: Recipient) -> list[str]:
        return recipient.topics


class StateFilter(TermFilter):
    title = parameter_name = "state"

    def values(self) -> Iterable[str]:
        return STATES


class ChannelFilter(TermFilter):
    title = parameter_name = "channel"

    def values(self) -> Iterable[str]:
        return Channel.objects.values_list("name", flat=True)


@admin.register(Delivery)
class DeliveryAdmin(SearchedFacts):
    search = DELIVERIES
    list_display = ("receiver", "state_badge", "shown_channel", "template", "attempts", "created_at", "reason")
    list_filter = (StateFilter, ChannelFilter, PeriodFilter, ("created_at", RangeFilter))
    list_select_related = ("channel",)
    search_help_text = "address, recipient, channel, event, words"
    fields = ("state",)
    actions = ("retry_selected", "cancel_selected")
    actions_detail = ("retry", "cancel")
    empty_message = "No deliveries. The step notify of a workflow makes them."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        rows: QuerySet[Delivery] = super().get_queryset(request)
        return rows if self.is_page(request) else rows.defer("message")

    @admin.display(description="to")
    def receiver(self, row: Delivery) -> str:
        return row.to or str(row.channel)

    @display(description="state", label=COLOURS, ordering="state")
    def state_badge(self, row: Delivery) -> str:
        return row.state

    @admin.display(description="channel")
    def shown_channel(self, row: Delivery) -> str:
        return f"{row.channel} ({row.kind})"

    def tell(self, row: Delivery) -> dict[str, Any]:
        return {"title": f"Delivery to {self.receiver(row)}", "delivery": story.tell([row])[0]}

    @admin.action(description="Retry", permissions=["operate"])
    def retry_selected(self, request: HttpRequest, rows: QuerySet[Delivery]) -> None:
        number = delivery.retry(rows)
        ring("notifications.deliver", "admin")
        self.message_user(request, f"{number} sent again. What was delivered or skipped is left alone.")

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel_selected(self, request: HttpRequest, rows: QuerySet[Delivery]) -> None:
        self.message_user(request, f"{delivery.cancel(rows)} cancelled. Only what is pending can be.")

    @action(
        description="Retry",
        icon="replay",
        permissions=["operate"],
        dialog=confirm("Send it again?", "At once, with a fresh schedule of retries and the same uid.", "Retry"),
    )
    def retry(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self.retry_selected(request, only(self, request, object_id))
        return done(request, reverse("admin:notifications_delivery_change", args=[object_id]))

    @action(
        description="Cancel",
        icon="cancel",
        permissions=["operate"],
        dialog=confirm("Cancel it?", "No more attempts are made. One that is under way may still arrive.", "Cancel it"),
    )
    def cancel(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self.cancel_selected(request, only(self, request, object_id))
        return done(request, reverse("admin:notifications_delivery_change", args=[object_id]))

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Only what changes something."""
        row = self.get_object(request, unquote(str(object_id)))
        useful = (
            {
                DeliveryState.PENDING: {"retry", "cancel"},
                DeliveryState.FAILED: {"retry"},
                DeliveryState.CANCELLED: {"retry"},
            }.get(DeliveryState(row.state), set())
            if row
            else set()
        )
        found = super().get_actions_detail(request, object_id)
        return [it for it in found if it.method.original_function_name in useful]
