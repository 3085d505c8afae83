"""An event type's page: who listens, what another schema would break, and a test event to send."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Final

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from events import cloudevents, ingest, stored
from events.compatibility import REFUSED, Toll, Trial, breaks, toll
from events.ingest import Stored
from events.models import EventType, Source
from events.review import Review
from events.review_panel import chosen_days, progress
from events.schemas import SchemaError, Validator
from project.api import Problem
from project.editor import JSONCodeField
from project.identifiers import OWN_SOURCE
from project.panels import panel, sealed, unsealed
from project.rates import Rate
from project.reading import Busy, reading

Json = Any

PANEL: Final = "schema_review"
_REVIEW: Final = "admin/events/eventtype/review.html"


class EventTypeForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    schema = JSONCodeField(
        required=False,
        rows=14,
        label="JSON Schema",
        help_text="What the type's data must look like (JSON Schema 2020-12). Saving another one adds a version; "
        "events may still name an older one in dataschema. Empty: anything goes.",
    )

    toll: Toll | None = None
    asks: str = ""
    """What the box to tick stands for: this schema and no other."""

    class Meta:
        model = EventType
        fields = ("name", "description", "example", "retired")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.latest = self.instance.schemas.first() if self.instance.pk else None
        if self.latest and "schema" in self.fields:
            self.initial["schema"] = self.latest.schema

    def clean(self) -> None:
        schema, example = self.cleaned_data.get("schema"), self.cleaned_data.get("example")
        if schema is None:
            if self.latest is not None and "schema" not in self.errors:
                self.add_error("schema", "Versions are never taken back. To let anything pass, write {}.")
            return
        try:
            validator = Validator(schema)
        except SchemaError as error:
            self.add_error("schema", str(error))
        else:
            for fault in validator.faults(example, "example") if example is not None else ():
                self.add_error("example", f"{fault.path}: {fault.message}")

    def _update_errors(self, errors: ValidationError) -> None:
        # The model holds the example against the stored schema; `clean` above has held it against the one in the form.
        if hasattr(errors, "error_dict"):
            errors.error_dict.pop("example", None)
            if not errors.error_dict:
                return
        super()._update_errors(errors)  # type: ignore[misc]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the stubs do not know it
        if self.instance.pk and not self.errors:
            self._weigh(self.cleaned_data.get("schema"))

    def _weigh(self, schema: Json) -> None:
        """Ask first when the schema breaks something."""
        if schema is None or (self.latest is not None and self.latest.schema == schema):
            return
        kind = EventType.objects.get(pk=self.instance.pk)  # by the name that its events have
        try:
            self.toll = toll(kind, schema)
        except Busy:
            return
        mark = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()
        if self.toll and self.data.get("confirmed") != mark:
            self.asks = mark
            self.add_error(None, "This schema breaks what is listed below. If that is meant, say so and save again.")


class SendForm(forms.Form):
    """A test event, to be sent as a source would."""

    source = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget, help_text="Who the event says it comes from. Its rate limit counts."
    )
    subject = forms.CharField(max_length=500, required=False, widget=UnfoldAdminTextInputWidget)
    data = JSONCodeField(required=False, rows=10, label="Data")  # type: ignore[assignment]  # a field, not the attribute

    def __init__(self, kind: EventType, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kind = kind
        self._sources = {source.uri: source for source in Source.objects.filter(enabled=True)}
        uris = [*self._sources, *([] if OWN_SOURCE in self._sources else [OWN_SOURCE])]
        field = self.fields["source"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(uri, uri) for uri in uris]
        self.initial.setdefault("data", _sample_data(kind))

    def send(self) -> Stored | None:
        """Store the event by the way that every event comes in; None, with the reasons in `errors`, when refused."""
        given = {name: self.cleaned_data[name] for name in ("source", "subject", "data")}
        uri = self.cleaned_data["source"]
        limit = self._sources[uri].rate_limit if uri in self._sources else ""
        body = json.dumps({**given, "type": self._kind.name}).encode()
        try:
            events, _ = cloudevents.read(cloudevents.PLAIN, {}, body)  # as a request's body is read
            [kept] = ingest.accept(events, source=uri, rate_limit=Rate.parse(limit) if limit else None)
        except Problem as problem:
            for fault in problem.errors:
                name = fault.path.partition(".")[0].partition("[")[0]
                self.add_error(name if name in self.fields else None, f"{fault.path}: {fault.message}")
            if not problem.errors:
                self.add_error(None, problem.text)
            return None
        return kept


def _sample_data(kind: EventType) -> Json:
    """The type's example, else the data of its newest event."""
    if kind.example is not None:
        return kind.example
    try:
        with reading():
            newest = stored.page([kind.name], most=1)
    except Busy:
        return {}
    return newest[0].data if newest else {}


class EventTypePanels:
    """What the page of an event type asks for by itself; part of its ModelAdmin."""

    admin_site: ClassVar[Any]

    def panel_urls(self) -> list[URLPattern]:
        return [
            path("check/", panel(self.admin_site, self.check_panel), name="events_eventtype_check"),
            path("review/", panel(self.admin_site, self.review_panel), name="events_eventtype_review"),
        ]

    def check_panel(self, request: HttpRequest) -> HttpResponse:
        """What the schema in the form breaks of what others read."""
        _refuse_strangers(request)
        kind, schema, problem = _asked(request)
        context: dict[str, Any] = {"problem": problem, "kind": kind}
        if kind and not problem:
            latest = kind.schemas.first()
            context["changed"] = schema is not None and (latest is None or latest.schema != schema)
            if context["changed"]:
                context["breaks"] = breaks(kind.name, latest.schema if latest else None, schema)
        return TemplateResponse(request, "admin/events/eventtype/check.html", context)

    def review_panel(self, request: HttpRequest) -> HttpResponse:
        """Begin to try the schema on the stored events of some days, or do the next step."""
        _refuse_strangers(request)
        if state := unsealed(request, PANEL):
            name, schema, days = state["type"], state["schema"], state["days"]
            review = Review.from_json(state["review"])
        else:
            kind, schema, problem = _asked(request)
            days = chosen_days(request)
            if kind is None or problem or schema is None or not days:
                problem = problem or "Write a schema first."
                return TemplateResponse(request, _REVIEW, {"problem": problem})
            name, review = kind.name, Review.of_days(days)
        trial, busy, refused = Trial(name, schema), None, []
        try:
            review.step(trial.types, trial.labels)
            with reading():
                refused = trial.tell_all(review.shown.get(REFUSED, ()))
        except Busy as error:
            busy = error
        state = {"type": name, "schema": schema, "days": days, "review": review.to_json()}
        context = {
            **progress(review, days),
            "panel": PANEL,
            "url": reverse("admin:events_eventtype_review"),
            "state": sealed(request, PANEL, state),
            "busy": busy,
            "refused": refused,
        }
        return TemplateResponse(request, _REVIEW, context)


def _refuse_strangers(request: HttpRequest) -> None:
    if not request.user.has_perms(["events.view_eventtype", "events.view_event"]):
        raise PermissionDenied


def _asked(request: HttpRequest) -> tuple[EventType | None, Json, str]:
    """The event type of the page, the schema in its form, and what is wrong with that."""
    given = request.POST.get("type", "")
    kind = EventType.objects.filter(pk=int(given)).first() if given.isdecimal() and len(given) < 18 else None
    if kind is not None and not request.user.has_perm("events.change_eventtype"):  # whoever may only look asks no more
        latest = kind.schemas.first()
        return kind, latest.schema if latest else None, ""
    try:
        schema = JSONCodeField(required=False).clean(request.POST.get("schema", ""))
        if schema is not None:
            Validator(schema)
    except ValidationError as error:
        return kind, None, " ".join(error.messages)
    except SchemaError as error:
        return kind, None, str(error)
    return kind, schema, ""
