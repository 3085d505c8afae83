"""Logging in: where somebody comes from, and what is said to them after too many wrong passwords."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone


def address_of(request: HttpRequest) -> str | None:
    """The address of whoever asks; behind a proxy, the one that the proxy tells. None where there is none."""
    # The last one is what the proxy itself has seen; those before it are what it was told.
    told = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2] if settings.BEHIND_PROXY else ""
    for address in (told, request.META.get("REMOTE_ADDR", "")):
        try:
            return str(ip_address(address.strip()))
        except ValueError:
            continue
    return None


def name_of(request: HttpRequest, credentials: dict[str, Any]) -> str:
    """The name that was tried, as long as a user's can be: the form takes any length, django-axes' table does not."""
    return str(credentials["username"])[: User._meta.get_field("username").max_length]


def locked(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any]) -> HttpResponse:
    """What django-axes answers to a name that is locked."""
    name = name_of(request, credentials)
    last = AccessAttempt.objects.filter(username=name, ip_address=address_of(request)).order_by("attempt_time").last()
    until = (last.attempt_time if last else timezone.now()) + settings.AXES_COOLOFF_TIME
    context = {**site.each_context(request), "title": "Locked", "name": name, "until": until}
    answer = render(request, "admin/locked.html", context, status=429)
    answer["Retry-After"] = str(max(1, round((until - timezone.now()).total_seconds())))
    return answer
