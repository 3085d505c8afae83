"""A subscription's page: what its filter says while somebody types, what it would do, and what saving it changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django import forms
from django.conf import settings
from django.contrib.postgres.forms import SimpleArrayField
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from events import stored
from events.dry_run import BEFORE, NEWLY, NO_LONGER, Draft, DryRun, Impact, impact
from events.models import FILTER_VARIABLES, Event, EventType, Source, Subscription
from events.review import Review
from events.review_panel import chosen_days, progress
from project.expressions import ExpressionError, compile_expression
from project.panels import panel, sealed, unsealed
from project.reading import Busy, reading
from workflows.models import Workflow

LATEST: Final = 6  # events that are shown while somebody types
PANEL: Final = "dry_run"


class SubscriptionForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Saving tells what it changes, and asks first when that is much."""

    impact: Impact | Busy | None = None
    """What saving it changes; why that is not known; None: nothing that decides was changed."""
    asks: str = ""
    """What the box to tick stands for: this draft and no other."""

    class Meta:
        model = Subscription
        fields = ("name", "description", "types", "sources", "filter", "workflow", "enabled")

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the stubs do not know it
        if not self.errors:
            self._weigh()

    def _weigh(self) -> None:
        before = Subscription.objects.filter(pk=self.instance.pk).first()
        saved = Draft.stored(before) if before else None
        draft = Draft.of(self.instance, self.cleaned_data["sources"])
        if draft == saved:
            return
        try:
            self.impact = impact(draft, saved)
        except Busy as busy:
            self.impact = busy
            return
        if self.impact.differing > settings.SUBSCRIPTION_CONFIRM_ABOVE:
            mark = hashlib.sha256(json.dumps(draft.to_json()).encode()).hexdigest()
            if self.data.get("confirmed") != mark:
                self.asks = mark
                self.add_error(None, f"{self.impact} Is that what you want? Then say so below, and save again.")


class DraftForm(forms.Form):
    """What decides about events, of a form that somebody is filling in."""

    types = SimpleArrayField(forms.CharField(max_length=200), required=False)
    sources = forms.ModelMultipleChoiceField(Source.objects.all(), required=False)
    filter = forms.CharField(required=False, strip=False)
    workflow = forms.ModelChoiceField(Workflow.objects.all(), required=False)
    enabled = forms.BooleanField(required=False)


@dataclass
class Asked:
    """What a panel is asked about."""

    draft: Draft | None
    """None: it cannot be tried; `problems` say why."""
    saved: Draft | None
    problems: dict[str, list[str]]
    error: ExpressionError | None = None

    @property
    def run(self) -> DryRun | None:
        return DryRun.as_if_enabled(self.draft, self.saved) if self.draft else None


def asked(request: HttpRequest) -> Asked:
    """The draft in the form that was sent along, and the subscription itself.

    Whoever may only look asks about what is saved: by filters of their own they could find out, letter by letter, what
    events hold that they are not shown (links that decide).
    """
    given = request.POST.get("subscription", "")
    row = Subscription.objects.filter(pk=int(given)).first() if given.isdecimal() and len(given) < 18 else None
    saved = Draft.stored(row) if row else None
    user = request.user
    if not (user.has_perm("events.change_subscription") or user.has_perm("events.add_subscription")):
        return Asked(saved, saved, {})
    form = DraftForm(request.POST)
    if not form.is_valid():
        return Asked(None, saved, {name: list(map(str, errors)) for name, errors in form.errors.items()})
    draft = Subscription(
        types=form.cleaned_data["types"],
        filter=form.cleaned_data["filter"].replace("\r\n", "\n"),
        enabled=form.cleaned_data["enabled"],
    )
    if workflow := form.cleaned_data["workflow"]:
        draft.workflow = workflow
    found = Asked(None, saved, {}, _error(draft.filter))
    try:
        draft.clean()
    except ValidationError as error:
        found.problems = {name: messages for name, messages in error.message_dict.items() if name != "filter"}
    if not found.problems and found.error is None:
        found.draft = Draft.of(draft, form.cleaned_data["sources"])
    return found


def _error(source: str) -> ExpressionError | None:
    try:
        if source:
            compile_expression(source, FILTER_VARIABLES)
    except ExpressionError as error:
        return error
    return None


class SubscriptionPanels:
    """What the page of a subscription asks for by itself; part of its ModelAdmin."""

    admin_site: ClassVar[Any]

    def panel_urls(self) -> list[URLPattern]:
        return [
            path("check/", panel(self.admin_site, self.check_panel), name="events_subscription_check"),
            path("dry-run/", panel(self.admin_site, self.dry_run_panel), name="events_subscription_dry_run"),
        ]

    def check_panel(self, request: HttpRequest) -> HttpResponse:
        """Whether the filter compiles, and what it says to the latest events."""
        _refuse_strangers(request)
        found = asked(request)
        context: dict[str, Any] = {"asked": found}
        if run := found.run:
            try:
                with reading():
                    context |= {"told": _latest(run), "run": run}
                context["examples"] = [] if context["told"] else _examples(run)
            except Busy as busy:
                context["busy"] = busy
        return TemplateResponse(request, "admin/events/subscription/check.html", context)

    def dry_run_panel(self, request: HttpRequest) -> HttpResponse:
        """Begin a dry run over some days, or do the next step of one."""
        _refuse_strangers(request)
        draft: Draft | None
        if state := unsealed(request, PANEL):
            draft, saved = Draft.from_json(state["draft"]), Draft.from_json(state["saved"]) if state["saved"] else None
            review, days = Review.from_json(state["review"]), state["days"]
        else:
            found = asked(request)
            draft, saved, days = found.draft, found.saved, chosen_days(request)
            if draft is None or not days:
                return TemplateResponse(request, _DRY_RUN, {"asked": found})
            review = Review.of_days(days)
        run, busy = DryRun.as_if_enabled(draft, saved), None
        try:
            review.step(run.types, run.labels)
            with reading():
                shown = _found(review, run)
        except Busy as error:
            busy, shown = error, []
        state = {"draft": draft.to_json(), "saved": saved and saved.to_json(), "days": days, "review": review.to_json()}
        context = {
            **progress(review, days),
            "panel": PANEL,
            "url": reverse("admin:events_subscription_dry_run"),
            "state": sealed(request, PANEL, state),
            "busy": busy,
            "run": run,
            "disabled": not (draft.enabled and draft.rule().workflow_enabled),
            "before": review.counts[BEFORE] if run.saved else review.counts["matched"],
            "same": not (review.counts[NEWLY] or review.counts[NO_LONGER]),
            "found": shown,
        }
        return TemplateResponse(request, _DRY_RUN, context)


_DRY_RUN: Final = "admin/events/subscription/dry_run.html"


def _refuse_strangers(request: HttpRequest) -> None:
    if not request.user.has_perms(["events.view_subscription", "events.view_event"]):
        raise PermissionDenied


def _latest(run: DryRun) -> list[dict[str, Any]]:
    return [run.tell(event) for event in stored.page(run.types, most=LATEST)]


def _examples(run: DryRun) -> list[dict[str, Any]]:
    """What the subscription would say to the examples of its types."""
    source = run.draft.sources[0] if run.draft.sources else "/example"
    kinds = EventType.objects.filter(example__isnull=False)
    heard = [kind for kind in kinds if run.draft.hears_type(kind.name)][:LATEST]
    now = timezone.now()
    return [
        {**run.tell(Event(type=kind.name, source=source, event_id="1", time=now, data=kind.example)), "example": True}
        for kind in heard
    ]


_SHOWN: Final = (
    (NEWLY, "Would newly match"),
    (NO_LONGER, "Would match no longer"),
    ("error", "Errors"),
    ("matched", "Matched"),
    ("filtered", "Filtered"),
)


def _found(review: Review, run: DryRun) -> list[dict[str, Any]]:
    """The counts with some events of each, the difference first."""
    told = {each["event"].pk: each for each in run.tell_all([uid for uids in review.shown.values() for uid in uids])}
    return [
        {
            "name": name,
            "title": title,
            "count": review.counts[name],
            "events": [told[uid] for uid in review.shown.get(name, ()) if uid in told],
        }
        for name, title in _SHOWN
        if run.saved is not None or name not in (NEWLY, NO_LONGER)
    ]
