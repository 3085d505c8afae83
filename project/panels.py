"""Parts of the admin's pages that HTMX asks for by themselves, and goes on with step by step."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, TypeAlias
from urllib.parse import quote, urlsplit

from django.contrib.admin import AdminSite
from django.core import signing
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

Json: TypeAlias = Any
View: TypeAlias = Callable[..., HttpResponse]


class PanelMedia:
    """What pages with panels load: `Media = PanelMedia` in their ModelAdmin."""

    css: ClassVar = {"all": ["carillon/panels.css"]}
    js: ClassVar[Any] = [Script("carillon/panels.js", defer=True)]


def panel(site: AdminSite, view: View) -> View:
    """The view, by POST and for who is logged in. Whose session has ended logs in on the page, not inside the panel."""
    inside = require_POST(site.admin_view(view))

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.headers.get("HX-Request") and not site.has_permission(request):
            back = urlsplit(request.headers.get("HX-Current-URL", "")).path
            return HttpResponse(headers={"HX-Redirect": f"{reverse('admin:login')}?next={quote(back)}"})
        return inside(request, *args, **kwargs)

    return answer


def sealed(request: HttpRequest, name: str, state: Json) -> str:
    """What a panel remembers until its next step, as the browser keeps it: only this person can hand it back."""
    return signing.dumps(state, salt=_salt(request, name), compress=True)


def unsealed(request: HttpRequest, name: str) -> Json:
    """What `sealed` was given, handed back under this name; None when it is not what this person was given."""
    try:
        return signing.loads(request.POST.get(name, ""), salt=_salt(request, name))
    except signing.BadSignature:
        return None


def _salt(request: HttpRequest, name: str) -> str:
    return f"carillon.{name}.{request.user.pk}"
