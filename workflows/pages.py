"""The page behind the link of an approval: it asks on GET, and decides on POST, for mail programs follow links."""

from __future__ import annotations

from typing import Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from workflows import decisions
from workflows.decisions import MAX_COMMENT, Question, Standing

STATUS: Final = {Standing.OPEN: 200, Standing.NOT_YET: 409}
"""What a page is answered with; the others are gone, 410."""


class DecisionForm(forms.Form):
    outcome = forms.ChoiceField(choices=[("approved", "Approve"), ("rejected", "Reject")])
    comment = forms.CharField(required=False, max_length=MAX_COMMENT)

    def clean_comment(self) -> str:
        """As it was typed: browsers send the ends of lines as CR LF."""
        return str(self.cleaned_data["comment"]).replace("\r\n", "\n")


@method_decorator(never_cache, name="dispatch")
class DecisionPage(View):
    """Whoever has the address may decide. No login, no script; works on a phone."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        question = decisions.question_of(token)
        return _page(request, question, status=STATUS.get(question.standing, 410) if question else 404)

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        question = decisions.question_of(token)
        if question is None or question.standing is not Standing.OPEN:
            return self.get(request, token)
        form = DecisionForm(request.POST)
        if not form.is_valid():
            return _page(request, question, status=422, form=form)
        taken = decisions.decide(question, form.cleaned_data["outcome"], form.cleaned_data["comment"])
        return _page(request, decisions.question_of(token), status=200 if taken else 410, taken=taken)


def _page(
    request: HttpRequest,
    question: Question | None,
    *,
    status: int,
    taken: bool = False,
    form: DecisionForm | None = None,
) -> HttpResponse:
    standing = question.standing if question else None
    context = {"question": question, "standing": standing.name if standing else "UNKNOWN", "taken": taken, "form": form}
    answer = render(request, "workflows/decision.html", {**context, "max_comment": MAX_COMMENT}, status=status)
    answer["X-Robots-Tag"] = "noindex"
    return answer
