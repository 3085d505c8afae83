"""What stands beside the form of a template: what a reader would get, what is wrong, and a test that is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from django import forms
from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from notifications.catalogue import LiveChannel, LiveTemplate, catalogue
from notifications.compose import ComposeError, Request, compose
from notifications.models import Delivery, Template
from notifications.rendering import (
    PARTS,
    RenderError,
    check_template,
    in_language,
    missing_variables,
    render,
    render_message,
)
from project import documents
from project.api import BadRequest, load
from project.doorbell import ring
from project.trying import DocumentField, EventForm

PREVIEW: Final = "admin/notifications/template/preview_results.html"
SENT: Final = "admin/notifications/template/sent.html"
CATEGORY: Final = "test"
ME: Final = "me"
MAX_NAME: Final = 100


class SampleForm(EventForm):
    """What a template is tried out with: all that it sees."""

    inside: ClassVar[str] = "event"

    document = DocumentField(
        required=False,
        rows=8,
        label="What the template sees",
        help_text="The event, and what else the workflow gives: steps, run, the fields of data.",
    )


@dataclass(frozen=True)
class Draft:
    """A template as it stands in the form, saved or not."""

    name: str
    sources: Mapping[str, str]
    languages: Any  # what the form says, which may be anything
    written: str  # `languages` as text

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Draft:
        texts = {part: given.get(part, "").replace("\r\n", "\n").replace("\0", "") for part in PARTS}
        written = given.get("languages", "")
        try:
            languages = load(written.encode()) if written.strip() else {}
        except BadRequest:
            languages = None
        return cls(given.get("name", "").replace("\0", "")[:MAX_NAME] or "unsaved", texts, languages, written)

    @property
    def overrides(self) -> dict[str, dict[str, str]]:
        """The languages that can be read, with those of their parts that are text."""
        known = self.languages if isinstance(self.languages, dict) else {}
        return {
            name: {part: text for part, text in parts.items() if part in PARTS and isinstance(text, str)}
            for name, parts in known.items()
            if isinstance(parts, dict)
        }

    def problems(self) -> list[tuple[str, str]]:
        """What keeps it from being saved, as (field path, message) pairs."""
        languages = {} if self.languages is None else self.languages
        found = check_template(**self.sources, languages=languages)
        return found if self.languages is not None else [*found, ("languages", "this is not JSON")]

    def place_of(self, part: str, language: str) -> str:
        """Where the text of this part, for a reader of the language, is written: `html`, or `languages.de.html`."""
        tag = language.lower().replace("_", "-")
        for wanted in (tag, tag.partition("-")[0]):
            for name, parts in self.overrides.items():
                if wanted and name.lower().replace("_", "-") == wanted and part in parts:
                    return f"languages.{name}.{part}"
        return part

    def mark(self, path: str, message: str) -> dict[str, Any]:
        """The problem as the editor of its field marks it."""
        field_, _, inside = path.partition(".")
        line = _line(message)
        if inside:  # in the JSON, a text is one line, whatever it says
            line = self._line_of((*inside.split("."),))
            message = f"{inside}: {message}"
        return {"field": field_, "line": line, "message": message}

    def _line_of(self, path: tuple[str, ...]) -> int:
        try:
            return documents.read(self.written)[0].line(path)  # JSON is YAML
        except (documents.DocumentError, IndexError):
            return 1


def _line(message: str) -> int:
    word, _, rest = message.partition(" ")
    number = rest.partition(":")[0]
    return int(number) if word == "line" and number.isdecimal() else 1


# --- the preview -----------------------------------------------------------------------------------------------------


@dataclass
class Preview:
    """What a reader of one language would get, or why not."""

    message: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)  # (field path, message)
    missing: list[tuple[str, str, int]] = field(default_factory=list)  # (variable, field path, line)


def previewed(draft: Draft, context: Mapping[str, Any], language: str) -> Preview:
    """Render the draft as it would be for this reader; tells all that is wrong, not only the first."""
    sources = in_language(draft.sources, draft.overrides, language)
    found = Preview(problems=draft.problems())
    unsound = {path for path, _ in found.problems}
    for part in PARTS:
        place = draft.place_of(part, language)
        if place in unsound or not sources.get(part):
            continue
        missing = missing_variables(sources[part], context, html=part == "html")
        found.missing += [(name, place, line) for name, line in missing]
        try:
            found.message |= render(draft.name, sources, {part}, context)
        except RenderError as error:
            found.problems.append((place, error.reason))
    if not found.problems:
        found.message = render_message(draft.name, sources, PARTS, context)
    return found


def preview(request: HttpRequest) -> HttpResponse:
    """What the form's template, saved or not, says about the sample."""
    draft, form = Draft.of(request.POST.dict()), SampleForm(request.POST, person=request.user)
    language = request.POST.get("language", "")
    context: dict[str, Any] = {"form": form, "languages": sorted(draft.overrides), "chosen": language}
    problems = draft.problems()
    if form.is_valid():
        shown = previewed(draft, form.cleaned_data["document"], language)
        context["preview"], problems = shown, shown.problems
    return TemplateResponse(
        request, PREVIEW, {**context, "problems": problems, "marks": [draft.mark(*one) for one in problems]}
    )


# --- the test --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Readers:
    """Whom somebody may send a test."""

    me: str = ""  # the address of their own
    no_mail: bool = False  # nothing carries mail to it
    channels: tuple[str, ...] = ()


def readers(request: HttpRequest) -> Readers:
    """Oneself, and for whoever may change channels, the channels that know themselves where to go."""
    known = catalogue()
    allowed = request.user.has_perm("notifications.change_channel")
    names = [name for name, channel in sorted(known.channels.items()) if allowed and _speaks(channel)]
    address = getattr(request.user, "email", "")
    return Readers(address, no_mail="email" not in known.defaults, channels=tuple(names))


def _speaks(channel: LiveChannel) -> bool:
    """Whether the channel sends words, and knows where to."""
    type_ = channel.type
    return type_ is not None and not type_.parts.isdisjoint(PARTS) and type_.own_address() is not None


def send(request: HttpRequest) -> tuple[HttpResponse, Delivery | None]:
    """Send the form's template, saved or not, as a test; returns the answer, and what is on its way."""
    draft, form = Draft.of(request.POST.dict()), SampleForm(request.POST, person=request.user)
    problems = list(_objections(request, draft, form))
    delivery = None
    if not problems:
        try:
            delivery = _made(request, draft, form.cleaned_data["document"])
        except (ComposeError, DataError) as error:  # DataError: a filter made what PostgreSQL cannot keep
            problems.append(str(error))
    return TemplateResponse(request, SENT, {"problems": problems, "delivery": delivery}), delivery


def _objections(request: HttpRequest, draft: Draft, form: forms.Form) -> Iterator[str]:
    to, allowed = request.POST.get("to", ""), readers(request)
    if to == ME and not allowed.me:
        yield "Your account has no e-mail address."
    elif to != ME and to not in allowed.channels:
        yield f'There is no channel "{to}" that you could send a test by.'
    for path, message in draft.problems():
        yield f"{path}: {message}"
    for errors in form.errors.values():
        yield from (f"What the template sees: {error}" for error in errors)


def _made(request: HttpRequest, draft: Draft, context: Mapping[str, Any]) -> Delivery:
    """The delivery, stored. Raises ComposeError."""
    to = request.POST["to"]
    words = in_language(draft.sources, draft.overrides, request.POST.get("language", ""))
    asked = Request(
        origin=None,
        to=[f"email:{readers(request).me}" if to == ME else f"channel:{to}"],
        template=draft.name,
        context=context,
        category=CATEGORY,
        draft=LiveTemplate(draft.name, words, {}),
    )
    [[delivery, *_]] = compose([asked])
    ring("notifications.deliver", by=str(delivery.uid))
    return delivery


def new_sample(request: HttpRequest, template: Template | None) -> SampleForm:
    """The form of a preview, with the likeliest event in it."""
    return SampleForm(person=request.user, template=template.name if template else "")
