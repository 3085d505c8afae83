"""What pages that try something out have in common: the event they try it with, chosen or written."""

from __future__ import annotations

from itertools import groupby
from typing import Any, ClassVar, Final

from django import forms
from django.core.exceptions import ValidationError
from django.forms.widgets import Script
from django.http import HttpRequest, JsonResponse
from django.urls import reverse_lazy
from django.views.decorators.http import require_safe
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from project import samples
from project.api import BadRequest, holds_nul, load
from project.editor import JSONCodeField
from project.samples import Person, Sample

STUB: Final = {"type": "example", "source": "/example", "id": "example", "data": {}}
"""Stands in the form of somebody who has, or may see, no event."""

# The stubs know only strings.
_SCRIPT: Any = Script("carillon/trying.js", defer=True)


class DocumentField(JSONCodeField):
    """A JSON object that expressions and templates can read."""

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise ValidationError("This is an object in braces: {…}.")
        if isinstance(value, str):
            try:
                load(value.encode())  # what the API would refuse, for it could not be kept
            except BadRequest as error:
                raise ValidationError(str(error)) from error
        if holds_nul(found):
            raise ValidationError("It holds the character NUL, which PostgreSQL cannot keep.")
        return found


class EventForm(forms.Form):
    """An event to try something out with. Choosing one fills the editor, where it can be changed."""

    sample = forms.ChoiceField(
        required=False, label="Try it with", widget=UnfoldAdminSelectWidget({"data-fills": "id_document"})
    )
    stored = forms.CharField(
        required=False,
        label="or the stored event",
        widget=UnfoldAdminTextInputWidget({"data-fills": "id_document", "placeholder": "its uid", "size": 36}),
    )
    document = DocumentField(required=False, rows=8, label="The event")

    inside: ClassVar[str] = ""
    """The field of the document that the event is; empty: the event is the document."""

    class Media:
        js = (_SCRIPT,)

    def __init__(self, data: Any = None, *, person: Person, workflow: str = "", template: str = "") -> None:
        offered = samples.offered(person, workflow=workflow, template=template)
        super().__init__(data, initial={"document": self._first(person, offered)})
        sample: Any = self.fields["sample"]
        sample.choices = [
            (group, [(one.key, one.label) for one in of_group])
            for group, of_group in groupby(offered, key=lambda one: one.group)
        ]
        if not offered:
            del self.fields["sample"]
        for name in ("sample", "stored"):
            if name in self.fields:
                self.fields[name].widget.attrs |= {"data-samples": reverse_lazy("samples"), "data-inside": self.inside}

    def _first(self, person: Person, offered: list[Sample]) -> dict[str, Any]:
        found = samples.event(person, offered[0].key) if offered else None
        event = STUB if found is None else found
        return {self.inside: event} if self.inside else event


@require_safe
def sample(request: HttpRequest) -> JsonResponse:
    """The event of a key, for the form to be filled with."""
    found = samples.event(request.user, request.GET.get("key", "").replace("\0", ""))
    problem = "" if found is not None else "There is no such event, or you may not see it."
    return JsonResponse({"event": found, "problem": problem}, json_dumps_params={"default": str})
