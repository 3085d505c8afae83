"""Links that decide on an approval are shown only to people who may act on runs: they need no other permission."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from project.tokens import hide


def conceal(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """A middleware, because links travel: they stand in messages, in inputs of steps, in events that steps made.

    The API does the same in project/api.py.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        in_admin = request.path.startswith(reverse("admin:index"))
        if in_admin and isinstance(response, HttpResponse) and not request.user.has_perm("workflows.change_run"):
            response.content = hide(response.content)
        return response

    return middleware
