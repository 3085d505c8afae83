"""The pages of the second factor: set it up, be asked for it, turn it off; and who has to be asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import django_otp
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.cache import never_cache
from unfold.widgets import UnfoldAdminTextInputWidget

from project import two_factor
from project.admin import done

MOST: Final = 40  # characters of a code, with the spaces that people type


def demand(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """A middleware: nobody sees a page of the admin before the second factor, if they have one or have to have one."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        page = _owed(request)
        return done(request, page) if page else get_response(request)

    return middleware


def _owed(request: HttpRequest) -> str | None:
    """The page that this person has to pass first."""
    free = {reverse("admin:login"), reverse("admin:logout"), reverse("two_factor_verify")}
    if not request.path.startswith(reverse("admin:index")) or request.path in free:
        return None
    user: Any = request.user
    if not user.is_authenticated or user.is_verified():
        return None
    if two_factor.device_of(user):
        return f"{reverse('two_factor_verify')}?{urlencode({'next': _way_back(request)})}"
    set_up = reverse("two_factor")
    return set_up if settings.REQUIRE_TWO_FACTOR and request.path != set_up else None


def _way_back(request: HttpRequest) -> str:
    """Where to go on afterwards: what was sent by a form, or asked by a part of a page, is not asked again."""
    plain = request.method == "GET" and "HX-Request" not in request.headers
    return request.get_full_path() if plain else reverse("admin:index")


class TokenForm(forms.Form):
    """A code, from the app or of the recovery codes."""

    token = forms.CharField(
        label="Code",
        max_length=MOST,
        widget=UnfoldAdminTextInputWidget(
            {"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false", "autofocus": ""}
        ),
    )

    def __init__(self, user: User, check: Callable[[User, str], Any | None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.check = check
        self.device: Any = None

    def clean_token(self) -> str:
        token: str = self.cleaned_data["token"]
        if until := two_factor.blocked_until(self.user, token):
            seconds = max(1, round((until - timezone.now()).total_seconds()))
            raise ValidationError(f"After wrong codes the next one is looked at in {seconds} s. Wait, and try again.")
        self.device = self.check(self.user, token)
        if self.device is None:
            raise ValidationError(
                "This code is wrong, or was used before. The app shows a new one every 30 seconds; "
                "the phone's clock has to be right."
            )
        return token


@never_cache
def verify(request: HttpRequest) -> HttpResponse:
    """Asked after the password, once for each login."""
    user: Any = request.user
    there = request.GET.get("next", "")
    if not url_has_allowed_host_and_scheme(there, {request.get_host()}, request.is_secure()):
        there = reverse("admin:index")
    if not user.is_authenticated or user.is_verified() or not two_factor.device_of(user):
        return redirect(there)  # where the login is asked, if that is what is missing
    form = TokenForm(user, two_factor.check, request.POST or None)
    if form.is_valid():
        django_otp.login(request, form.device)
        request.session.cycle_key()
        return redirect(there)
    context = {**site.each_context(request), "title": "Second factor", "form": form}
    return render(request, "admin/two_factor/verify.html", context)


@never_cache
def two_factor_page(request: HttpRequest) -> HttpResponse:
    """Somebody's own second factor: set it up, make new recovery codes, turn it off."""
    user = cast(User, request.user)
    device = two_factor.device_of(user)
    if device is None:
        return _set_up(request, user)
    form = TokenForm(user, two_factor.check, request.POST or None)
    if form.is_valid() and "codes" in request.POST:
        return _codes(request, two_factor.new_codes(user), "New recovery codes")
    if form.is_valid() and "off" in request.POST:
        two_factor.forget(user)
        messages.success(request, "The second factor is off. From now on the password is enough.")
        return redirect("two_factor")
    context = {"form": form, "device": device, "left": two_factor.codes_left(user)}
    return _page(request, "on.html", "Two-factor login", **context)


def _set_up(request: HttpRequest, user: User) -> HttpResponse:
    form = TokenForm(user, two_factor.confirm, request.POST or None)
    if form.is_valid():
        django_otp.login(request, form.device)
        return _codes(request, two_factor.new_codes(user), "The second factor is on")
    device = two_factor.begin(user)
    context = {"form": form, "qr_code": two_factor.qr_code(device), "secret": two_factor.secret_of(device)}
    return _page(request, "set_up.html", "Set up two-factor login", required=settings.REQUIRE_TWO_FACTOR, **context)


def _codes(request: HttpRequest, codes: list[str], title: str) -> HttpResponse:
    """They are shown this once."""
    return _page(request, "codes.html", title, codes=codes)


def _page(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    return render(request, f"admin/two_factor/{template}", {**site.each_context(request), "title": title, **context})
