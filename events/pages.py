"""The admin's pages that belong to no model: the overview's part that keeps itself up to date, and getting started."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.contrib.admin import site
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from events.dashboard import board
from events.welcome import HIDDEN, start

A_YEAR: Final = 365 * 24 * 3600  # seconds


@require_safe
def overview_part(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "facts/board.html", board(request))


@require_safe
def getting_started(request: HttpRequest) -> HttpResponse:
    """The page, or only the steps where HTMX asks."""
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "facts/welcome.html", {"welcome": start(request)})
    context = {
        **site.each_context(request),
        "title": "Getting started",
        "welcome": start(request),
        "inbox": settings.INBOX,
    }
    return TemplateResponse(request, "admin/start.html", context)


@require_POST
def hide(request: HttpRequest) -> HttpResponse:
    """Have the steps no longer on the overview of this browser."""
    answer = redirect("admin:index")
    answer.set_cookie(HIDDEN, "yes", max_age=A_YEAR, httponly=True, samesite="Lax", secure=request.is_secure())
    return answer


urlpatterns = [
    path("overview/", site.admin_view(overview_part), name="overview"),
    path("start/", site.admin_view(getting_started), name="start"),
    path("start/hide/", site.admin_view(hide), name="start_hide"),
]
