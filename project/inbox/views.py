"""The inbox over HTTP: a page for people, JSON for tests, and a Slack-compatible door."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from project.inbox import receive
from project.inbox.models import Message


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """What was received, newest first; the page keeps itself up to date."""
    return render(request, "inbox/page.html", {"inbox": Message.objects.newest_first()})


@csrf_exempt
@require_http_methods(["GET", "DELETE"])
def messages(request: HttpRequest) -> HttpResponse:
    """GET: all that is kept, newest first. DELETE: empty it."""
    if request.method == "DELETE":
        Message.objects.all().delete()
        return HttpResponse(status=204)
    fields = ("id", "kind", "to", "subject", "text", "html", "headers", "received_at")
    return JsonResponse(list(Message.objects.newest_first().values(*fields)), safe=False)


@csrf_exempt
@require_POST
def mail(request: HttpRequest) -> HttpResponse:
    """A mail as smtp.py received it; the envelope's recipients are a JSON list in `X-Recipients`."""
    try:
        recipients = [str(recipient) for recipient in json.loads(request.headers.get("X-Recipients", "[]"))]
    except ValueError:
        return HttpResponse("X-Recipients is not a JSON list", status=400, content_type="text/plain")
    receive.mail(request.body, recipients)
    return HttpResponse("kept", content_type="text/plain")


@csrf_exempt
@require_POST
def slack(request: HttpRequest) -> HttpResponse:
    """Slack's incoming webhook, JSON or `payload=` form, with Slack's answers: `ok`, `invalid_payload`, `no_text`."""
    try:
        payload: Any = json.loads(request.POST.get("payload") or request.body)
    except ValueError:
        return HttpResponse("invalid_payload", status=400, content_type="text/plain")
    if not isinstance(payload, dict):
        return HttpResponse("invalid_payload", status=400, content_type="text/plain")
    try:
        receive.chat(payload, dict(request.headers))
    except ValueError as error:
        return HttpResponse(str(error), status=400, content_type="text/plain")
    return HttpResponse("ok", content_type="text/plain")
