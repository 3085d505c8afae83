"""The admin of sources with their keys, event types with their schemas, subscriptions, and events with their trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, Final
from uuid import uuid4

import orjson
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from events import dead_letters, replay
from events.brokers.base import Broker
from events.curl import curl
from events.dead_letters import CannotRedrive
from events.event_type_page import EventTypeForm, EventTypePanels, SendForm
from events.feeds import consumed
from events.listeners import Listeners
from events.models import (
    SECRETS,
    ApiKey,
    DeadLetter,
    Event,
    EventSchema,
    EventType,
    LetterState,
    Original,
    Replay,
    Schedule,
    Source,
    Subscription,
)
from events.review_panel import PERIODS
from events.routing import Verdict
from events.scheduling import fire_now
from events.searching import EVENTS, LETTER_STATES, LETTERS, ROUTED
from events.sources import adapters
from events.sources.mapped import MAPPED
from events.subscription_page import SubscriptionForm, SubscriptionPanels
from events.trace import awaited, lines, trace
from events.welcome import start
from project.admin import Configuration, confirm, done, goes_to, only
from project.api import Problem
from project.editor import CodeField
from project.fact_lists import PeriodFilter, RangeFilter, SearchedFacts, TermFilter
from project.flower import tasks_of
from project.live import live
from project.panels import PanelMedia
from project.plugged import Plugged, PluggedForm
from project.reading import Busy
from project.scopes import Scope
from project.secrets import mask
from project.settings_form import PREFIX, SecretField
from project.templatetags.facts import COLOURS, badge, code
from workflows.timeline import timeline

SHOWN_TIMES: Final = 5
LIST_REASON: Final = 160  # characters of a reason that a list shows


def state_of(key: ApiKey) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= timezone.now() else "valid"


class SourceForm(PluggedForm):
    """One adapter's sources. One that needs no secret has no fields for it."""

    secret = SecretField(required=False)
    previous_secret = SecretField(
        required=False, help_text=Source._meta.get_field("previous_secret").help_text, label="Previous secret"
    )

    class Meta:
        model = Source
        fields = ("name", "description", "enabled", "rate_limit")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in SECRETS:
            if isinstance(field := self.fields.get(name), SecretField):  # whoever may only look has no fields
                field.show(getattr(self.instance, name))
        adapter = adapters.get(self.kind)
        if adapter and "secret" in self.fields:
            self.fields["secret"].help_text = f"{adapter.secret} ${{NAME}} is read from the environment."

    def clean(self) -> None:
        super().clean()
        for name in SECRETS:
            setattr(self.instance, name, self.cleaned_data.get(name, getattr(self.instance, name)))


class KeyInline(TabularInline):
    model = ApiKey
    verbose_name_plural = "API keys"
    fields = readonly_fields = ("name", "prefix", "allowed", "created_at", "expires_at", "state")
    extra = 0
    tab = True
    show_change_link = True
    hide_title = False

    def has_add_permission(self, request: HttpRequest, obj: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="scopes")
    def allowed(self, key: ApiKey) -> str:
        return ", ".join(key.scopes) or "none"

    @admin.display(description="state")
    def state(self, key: ApiKey) -> SafeString:
        return badge(state_of(key))


class IssueKeyForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        widget=UnfoldAdminTextInputWidget,
        help_text="Where this key is used, for example: shop in production.",
    )
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, f"{scope.value}: {scope.label}") for scope in Scope],
        initial=[Scope.EVENTS_WRITE],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    days = forms.TypedChoiceField(
        label="Expires",
        choices=[("", "never"), ("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year")],
        coerce=int,
        empty_value=None,
        required=False,
        widget=UnfoldAdminSelectWidget,
    )


@admin.register(Source)
class SourceAdmin(Plugged):
    registry = adapters
    kind_field = "adapter"
    plugged_form = SourceForm
    question = "Who sends the events? What is needed to know the sender by, or to reach the broker, comes next."
    list_display = ("name", "adapter", "shown_uri", "description", "rate_limit", "keys_in_use", "enabled")
    ordering = ("name",)  # said here, too: what is counted per row has no order of its own
    list_filter = ("adapter", "enabled")
    search_fields = ("name", "description")
    readonly_fields = ("adapter", "shown_settings", "hook", "shown_secret", "consumers")
    inlines = (KeyInline,)
    actions_detail = ("issue_key",)
    empty_message = "A source is a program that sends events: by the API, with a key, by webhooks, or through a broker."

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        adapter = adapters.get(self.kind_of(request, obj))
        found: list[Any] = [(None, {"fields": ("name", "description", "adapter", "enabled", "rate_limit")})]
        names = self.setting_fields(request, obj)
        if adapter and issubclass(adapter, Broker):
            return [*found, *self._broker_fieldsets(names, obj)]
        if adapter is None or adapter.secret:
            may = obj is None or self.has_change_permission(request, obj)
            names = [*(SECRETS if may else ("shown_secret",)), *names]
        if adapter and adapter.webhooks and obj is not None:
            names = ["hook", *names]
        if names:
            found.append(("Webhooks", {"fields": names}))
        return found

    def _broker_fieldsets(self, names: Sequence[str], obj: Any) -> Any:
        described = [name for name in names if name.removeprefix(PREFIX) in MAPPED]
        reached = [name for name in names if name not in described]
        yield "Broker", {"fields": [*(["consumers"] if obj else []), *reached]}
        if described:
            yield (
                "Events",
                {"fields": described, "description": "Only where messages are not CloudEvents: then a type is needed."},
            )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if obj.adapter in adapters:
            obj.bring_types()

    @admin.display(description="address")
    def hook(self, source: Source) -> SafeString:
        """Where the vendor is told to call."""
        address = f"{settings.CARILLON_URL.rstrip('/')}{reverse('hook', args=[source.name])}"
        return format_html('<code class="expression">{}</code>', address)

    @admin.display(description="consumers")
    def consumers(self, source: Source) -> SafeString:
        """How its consumers are doing."""
        feed = consumed().get(source.name)
        if feed is None:
            return badge("nobody consumes it" if source.enabled else "disabled", "danger" if source.enabled else "")
        told = str(feed) if feed.connected else feed.error
        return format_html("{} {}", badge(feed.state, "success" if feed.connected else "warning"), told)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        return super().get_queryset(request).annotate(keys_valid=Count("keys", filter=Q(keys__revoked_at=None)))

    @admin.display(description="secret", empty_value="none")
    def shown_secret(self, source: Source) -> Any:
        return mask(source.secret) or None

    @admin.display(description="CloudEvents source", ordering="name")
    def shown_uri(self, source: Source) -> str:
        return source.uri

    @admin.display(description="keys", ordering="keys_valid")
    def keys_in_use(self, source: Any) -> int:
        return int(source.keys_valid)

    @action(description="Issue an API key", icon="key", url_path="issue-key", permissions=["change"])
    def issue_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        source = only(self, request, object_id).get()
        page = reverse("admin:events_source_change", args=[source.pk])
        form = IssueKeyForm(request.POST or None, initial=request.GET.dict())
        key = None
        if form.is_valid():
            days = form.cleaned_data["days"]
            row, key = ApiKey.issue(
                source, form.cleaned_data["name"], form.cleaned_data["scopes"], timedelta(days=days) if days else None
            )
            self.log_change(request, source, f"Issued the API key {row.name} ({row.prefix}…).")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Issue an API key for {source}",
            "opts": self.opts,
            "original": source,
            "form": form,
            "key": key,
            "welcome": start(request),
            "back": reverse("start") if request.GET.get("then") == "start" else page,
        }
        return TemplateResponse(request, "admin/events/source/issue_key.html", context)


@admin.register(ApiKey)
class ApiKeyAdmin(Configuration):
    list_display = ("name", "source", "prefix", "allowed", "expires_at", "state")
    list_filter = ("source",)
    list_select_related = ("source",)
    search_fields = ("name", "prefix", "source__name")
    fields = readonly_fields = (
        "source",
        "name",
        "prefix",
        "allowed",
        "created_at",
        "expires_at",
        "revoked_at",
        "state",
    )
    actions = ("revoke_selected",)
    actions_detail = ("revoke",)
    empty_message = "Keys are issued on the page of a source."

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("events.change_apikey"))

    @admin.display(description="scopes")
    def allowed(self, key: ApiKey) -> str:
        return ", ".join(key.scopes) or "none"

    @display(description="state", label=COLOURS)
    def state(self, key: ApiKey) -> str:
        return state_of(key)

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        self._revoke(request, keys)

    @action(
        description="Revoke",
        icon="block",
        permissions=["revoke"],
        dialog=confirm(
            "Revoke this key?",
            "Whoever uses it is answered 401 from the next second on. A revoked key stays revoked.",
            "Revoke",
        ),
    )
    def revoke(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self._revoke(request, only(self, request, object_id))
        return done(request, reverse("admin:events_apikey_change", args=[object_id]))

    def _revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        valid = list(keys.filter(revoked_at=None))
        for key in valid:
            key.revoked_at = timezone.now()
            key.save(update_fields=["revoked_at"])
            self.log_change(request, key, "Revoked.")
        self.message_user(request, f"Revoked: {', '.join(map(str, valid)) or 'none, they were revoked before'}.")


class SchemaInline(TabularInline):
    model = EventSchema
    verbose_name_plural = "schema versions"
    fields = readonly_fields = ("version", "created_at", "shown")
    extra = 0
    tab = True
    hide_title = True

    def has_add_permission(self, request: HttpRequest, obj: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="schema")
    def shown(self, row: EventSchema) -> SafeString:
        return code(row.schema)


@admin.register(EventType)
class EventTypeAdmin(EventTypePanels, Configuration):
    form = EventTypeForm
    change_form_template = "admin/events/eventtype/change_form.html"
    Media = PanelMedia
    list_display = ("name", "description", "latest", "retired")
    list_filter = ("retired",)
    search_fields = ("name", "description")
    fieldsets = (
        (None, {"fields": ("name", "description", "retired")}),
        ("What its data looks like", {"fields": ("schema", "example")}),
    )
    shown_instead: ClassVar = {"schema": "latest"}
    inlines = (SchemaInline,)
    actions_detail = ("send",)
    empty_message = "An event type is a kind of event that producers may send, like order.paid."

    def get_queryset(self, request: HttpRequest) -> QuerySet[EventType]:
        return super().get_queryset(request).annotate(version=models.Max("schemas__version"))

    @admin.display(description="schema", empty_value="none: anything goes")
    def latest(self, row: Any) -> str | None:
        return f"version {row.version}" if row.version else None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if (schema := form.cleaned_data.get("schema")) is not None:
            obj.add_schema(schema)

    def get_urls(self) -> list[URLPattern]:
        return [*self.panel_urls(), *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            context |= {"listeners": Listeners(obj.name), "periods": PERIODS}
        if context["adminform"].form.asks:
            context["errors"] = None  # there is nothing to correct
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def has_send_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("events.change_event"))

    @action(description="Send a test event", icon="send", url_path="send", permissions=["send"])
    def send(self, request: HttpRequest, object_id: str) -> HttpResponse:
        kind = only(self, request, object_id).get()
        form = SendForm(kind, request.POST or None)
        if form.is_valid() and (kept := form.send()):
            self.log_change(request, kind, f"Sent the test event {kept.uid}.")
            self.message_user(request, f"The test event {kept.uid} was sent.")
            return redirect("admin:events_event_change", kept.uid)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Send a test event of {kind}",
            "opts": self.opts,
            "original": kind,
            "form": form,
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "admin/events/eventtype/send.html", context)


@admin.register(Subscription)
class SubscriptionAdmin(SubscriptionPanels, Configuration):
    form = SubscriptionForm
    change_form_template = "admin/events/subscription/change_form.html"
    Media = PanelMedia
    list_display = ("name", "hears", "shown_filter", "starts", "enabled")
    list_filter = ("enabled", "workflow")
    list_select_related = ("workflow",)
    search_fields = ("name", "description", "filter")
    readonly_fields = ("verdicts",)
    autocomplete_fields = ("sources",)
    formfield_overrides = Configuration.formfield_overrides | {ArrayField: {"widget": UnfoldAdminTextInputWidget}}
    empty_message = "A subscription says which events start which workflow."

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        tried = ("verdicts",) if request.user.has_perm("events.view_event") else ()
        return [
            (None, {"fields": ("name", "description", "enabled")}),
            ("Which events", {"fields": ("types", "sources", "filter", *tried)}),
            ("What they start", {"fields": ("workflow",)}),
        ]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "filter":
            return CodeField(language="cel", rows=2, required=False, help_text=db_field.help_text)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        return [*self.panel_urls(), *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["periods"] = PERIODS
        if context["adminform"].form.asks:
            context["errors"] = None  # there is nothing to correct
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="Latest events")
    def verdicts(self, row: Subscription) -> SafeString:
        """What it says to them, which the browser asks for."""
        return render_to_string("admin/events/subscription/verdicts_field.html", {"subscription": row})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if isinstance(form.impact, Busy):
            self.message_user(request, f"What this changes could not be told: {form.impact}", messages.WARNING)
        elif form.impact:
            self.message_user(request, str(form.impact))

    @display(description="types", label=True)
    def hears(self, row: Subscription) -> list[str]:
        return row.types

    @admin.display(description="filter", empty_value="every one")
    def shown_filter(self, row: Subscription) -> SafeString | None:
        return format_html('<code class="expression">{}</code>', row.filter) if row.filter else None

    @admin.display(description="workflow", ordering="workflow__name")
    def starts(self, row: Subscription) -> SafeString:
        return goes_to("workflows_workflow", row.workflow_id, row.workflow)


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    class Meta:
        model = Schedule
        fields = ("name", "description", "enabled", "cron", "time_zone", "type", "source", "subject", "data")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "type" in self.fields:  # whoever may only look has no fields
            known = EventType.objects.filter(Q(retired=False) | Q(name=self.instance.type))
            self.fields["type"] = forms.ChoiceField(
                label="Event type",
                choices=[("", "---------"), *((kind.name, kind.name) for kind in known)],
                widget=UnfoldAdminSelectWidget,
            )


@admin.register(Schedule)
class ScheduleAdmin(Configuration):
    form = ScheduleForm
    list_display = ("name", "cron", "time_zone", "type", "next_time", "state", "description")
    list_filter = ("enabled",)
    search_fields = ("name", "description", "type")
    readonly_fields = ("next_times", "last_fired_at", "made", "error")
    actions_detail = ("fire",)
    empty_message = "A schedule makes an event whenever its time comes."

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        found = [
            (None, {"fields": ("name", "description", "enabled")}),
            ("When", {"fields": ("cron", "time_zone", *(("next_times",) if obj else ()))}),
            ("Which event", {"fields": ("type", "source", "subject", "data")}),
        ]
        if obj is not None:
            found.append(("What it did", {"fields": ("last_fired_at", "made", "error")}))
        return found

    def changed_columns(self, form: Any) -> list[str]:
        return [*form.changed_data, "due_at"]

    @display(description="state", label=COLOURS)
    def state(self, schedule: Schedule) -> str:
        return "disabled" if not schedule.enabled else "failed" if schedule.error else "enabled"

    @admin.display(description="next time", ordering="due_at", empty_value="none")
    def next_time(self, schedule: Schedule) -> Any:
        return schedule.due_at

    @admin.display(description="next times")
    def next_times(self, schedule: Schedule) -> SafeString | str:
        if schedule.due_at is None:
            return "none: it is disabled"
        try:
            times = schedule.times
            coming = [schedule.due_at, *times.upcoming(max(schedule.due_at, timezone.now()), SHOWN_TIMES - 1)]
        except (ValueError, LookupError) as error:
            return str(error)
        shown = ((f"{time.astimezone(times.zone):%a %Y-%m-%d %H:%M %Z}",) for time in coming)
        return format_html("<ol>{}</ol>", format_html_join("", "<li>{}</li>", shown))

    @admin.display(description="last event", empty_value="none")
    def made(self, schedule: Schedule) -> SafeString | None:
        return goes_to("events_event", schedule.last_event, schedule.last_event) if schedule.last_event else None

    @action(
        description="Fire now",
        icon="play_arrow",
        permissions=["operate"],
        dialog=confirm(
            "Make this schedule's event now?",
            "Whoever hears of the event does what it does at the schedule's own times, which stay as they are.",
            "Fire now",
        ),
    )
    def fire(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        schedule = only(self, request, object_id).get()
        page = reverse("admin:events_schedule_change", args=[schedule.pk])
        try:
            stored = fire_now(schedule)
        except Problem as error:
            self.message_user(request, f"No event was made: {error.text}", messages.ERROR)
        else:
            self.log_change(request, schedule, f"Fired by hand: {stored.uid}.")
            self.message_user(request, f"The event {stored.uid} was made.")
        return done(request, page)


class TypeFilter(TermFilter):
    title = parameter_name = "type"

    def values(self) -> Iterable[str]:
        return EventType.objects.values_list("name", flat=True)


class SourceFilter(TermFilter):
    title = parameter_name = "source"

    def values(self) -> Iterable[str]:
        return [f"/{name}" for name in Source.objects.values_list("name", flat=True)]


class RoutedFilter(TermFilter):
    title = parameter_name = "state"

    def values(self) -> Iterable[str]:
        return ROUTED


class BrokerFilter(TermFilter):
    title = parameter_name = "source"

    def values(self) -> Iterable[str]:
        return Source.of_brokers().values_list("name", flat=True)


class LetterFilter(TermFilter):
    title = parameter_name = "state"

    def values(self) -> Iterable[str]:
        return LETTER_STATES


@admin.register(DeadLetter)
class DeadLetterAdmin(SearchedFacts):
    search = LETTERS
    list_display = ("source", "shown_position", "state_badge", "received_at", "shown_reason")
    list_filter = (BrokerFilter, LetterFilter, PeriodFilter)
    search_help_text = "uid, position, source, words of the reason"
    fields = ("source",)
    actions = ("try_again_selected", "discard_selected")
    actions_detail = ("try_again", "discard")
    empty_message = "No dead letters: every message that a broker delivered could be an event."

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        letters: QuerySet[DeadLetter] = super().get_queryset(request)
        return letters if self.is_page(request) else letters.defer("body", "headers", "about")

    @admin.display(description="position")
    def shown_position(self, row: DeadLetter) -> str:
        return row.position

    @display(description="state", label=COLOURS)
    def state_badge(self, row: DeadLetter) -> str:
        return row.state

    @admin.display(description="reason")
    def shown_reason(self, row: DeadLetter) -> str:
        return row.reason[:LIST_REASON] + ("…" if len(row.reason) > LIST_REASON else "")

    def tell(self, row: DeadLetter) -> dict[str, Any]:
        body, content = bytes(row.body), None
        with suppress(orjson.JSONDecodeError):
            content = orjson.loads(body)
        shown = {"content": content, "text": body.decode(errors="replace").replace("\0", "\ufffd")}
        source = Source.objects.filter(name=row.source).first()
        event = Event.objects.only("uid", "type").filter(uid=row.event).first() if row.event else None
        return {"title": f"Dead letter of {row.source}", "letter": row, "source": source, "event": event, **shown}

    @admin.action(description="Try again", permissions=["operate"])
    def try_again_selected(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        stored, refused = [], []
        for row in rows.order_by("uid"):
            try:
                stored.append(dead_letters.redrive(row, by=request.user.get_username()))
            except CannotRedrive as error:
                refused.append(f"{row.position}: {error}")
        if stored:
            self.message_user(request, f"{len(stored)} stored as {'an event' if len(stored) == 1 else 'events'}.")
        if refused:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            self.message_user(request, f"Still no event: {refused[0]}{more}", messages.ERROR)

    @admin.action(description="Discard", permissions=["operate"])
    def discard_selected(self, request: HttpRequest, rows: QuerySet[DeadLetter]) -> None:
        number = dead_letters.discard(rows, by=request.user.get_username())
        self.message_user(request, f"{number} discarded. What was settled before is left alone.")

    @action(
        description="Try again",
        icon="replay",
        permissions=["operate"],
        dialog=confirm(
            "Try it again?",
            "By the source and the event type as they are now. If that fails again, the new reason is shown.",
            "Try again",
        ),
    )
    def try_again(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self.try_again_selected(request, only(self, request, object_id))
        return done(request, reverse("admin:events_deadletter_change", args=[object_id]))

    @action(
        description="Discard",
        icon="delete",
        permissions=["operate"],
        dialog=confirm("Discard it?", "It stays here to be seen, and can be tried again.", "Discard"),
    )
    def discard(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self.discard_selected(request, only(self, request, object_id))
        return done(request, reverse("admin:events_deadletter_change", args=[object_id]))

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Only what changes something."""
        row = self.get_object(request, unquote(str(object_id)))
        left = {LetterState.WAITING: ("try_again", "discard"), LetterState.DISCARDED: ("try_again",)}
        may = left.get(row.state, ()) if row else ()
        return [each for each in super().get_actions_detail(request, object_id) if each.action_name.endswith(may)]


class ReplayForm(forms.Form):
    """Who is to hear of an event again. `key` names the wish: a second click is none."""

    subscription = forms.CharField(required=False, max_length=100)
    key = forms.CharField(max_length=200)


@admin.register(Event)
class EventAdmin(SearchedFacts):
    search = EVENTS
    list_display = ("shown_type", "subject", "source", "received_at", "matched", "state")
    list_filter = (TypeFilter, SourceFilter, RoutedFilter, PeriodFilter, ("received_at", RangeFilter))
    search_help_text = "uid, id, subject, type:order.*, words"
    fields = ("type",)
    actions_detail = ("replay",)
    empty_message = "No events. Send one: POST /api/v1/events with an API key of a source."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        events: QuerySet[Event] = super().get_queryset(request)
        return events if self.is_page(request) else events.defer("data", "extensions")

    @admin.display(description="type", ordering="type")
    def shown_type(self, event: Event) -> str:
        return event.type

    @admin.display(description="matched")
    def matched(self, event: Event) -> str:
        if event.due_at is not None:
            return ""
        return f"{sum(verdict['verdict'] == 'matched' for verdict in event.verdicts)} of {len(event.verdicts)}"

    @display(description="state", label=COLOURS)
    def state(self, event: Event) -> str:
        return "routed" if event.due_at is None else "waiting to be routed"

    def tell(self, event: Event) -> dict[str, Any]:
        told, now = trace(event), timezone.now()
        return {
            "title": event.type,
            "story": told,
            "timeline": timeline(lines(told, now)),
            "brought_by": Original.objects.filter(event=event).first(),
            "curl": curl(event, f"{settings.CARILLON_URL}{reverse('events')}"),
            "flower": tasks_of("events.route", str(event.uid), [run["uid"] for run in told["runs"]]),
            "live": live(told, awaited(event, told, now), now),
        }

    @action(description="Replay", icon="replay", permissions=["operate"])
    def replay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say what the event would start, for all subscriptions and for each; when that is confirmed, do it."""
        event: Event = only(self, request, object_id).get()
        form, refused = ReplayForm(request.POST), ""
        if "confirmed" in request.POST and form.is_valid():
            try:
                asked, new = replay.ask(event, by=request.user.get_username(), **form.cleaned_data)
            except replay.CannotReplay as error:
                refused = str(error)
            else:
                return self._replayed(request, event, asked, new=new)
        verdicts: Sequence[Verdict] = ()
        try:
            verdicts = replay.foresee(event)
        except replay.CannotReplay as error:
            refused = str(error)
        context = {
            **self.admin_site.each_context(request),
            "title": "Replay?",
            "opts": self.opts,
            "original": event,
            "verdicts": verdicts,
            "matched": sum(told["verdict"] == "matched" for told in verdicts),
            "chosen": request.GET.get("subscription", ""),
            "refused": refused,
            "key": uuid4(),
            "page": reverse("admin:events_event_change", args=[event.pk]),
        }
        return TemplateResponse(request, "admin/events/event/replay.html", context)

    def _replayed(self, request: HttpRequest, event: Event, asked: Replay, *, new: bool) -> HttpResponse:
        if new:
            self.log_change(request, event, f"Replayed to {asked.subscription or 'all subscriptions'}.")
            self.message_user(request, f"Replay {asked.number} was asked for. What becomes of it is told below.")
        return redirect("admin:events_event_change", event.pk)
