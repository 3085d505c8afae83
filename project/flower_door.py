"""The door from the admin to Flower: whoever is logged in, and may see the processes, is sent there with a ticket."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache

from project import tickets
from project.tickets import Ticket


@never_cache
def to_flower(request: HttpRequest) -> HttpResponse:
    """Flower sends people here who have no ticket (project/flowerlogin.py), with `state` and `next`; they go back."""
    if not settings.FLOWER_URL:
        raise Http404("FLOWER_URL is not set.")
    if not request.user.has_perm("project.view_heartbeat"):
        messages.error(
            request, "You may not open Flower. An administrator gives you a role: viewer, operator or editor."
        )
        return redirect("admin:index")
    flower = settings.FLOWER_URL.rstrip("/")
    if not (state := request.GET.get("state")):
        return redirect(flower)  # somebody came by themselves; Flower knows the way
    ticket = Ticket(request.user.get_username(), acts=request.user.has_perm("project.operate_heartbeat"))
    told = {"ticket": tickets.write(ticket, state), "next": request.GET.get("next", "/")}
    return redirect(f"{flower}/login?{urlencode(told)}")
