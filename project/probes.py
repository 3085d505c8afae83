"""What machines ask is answered by whatever name they ask: before hosts, redirects and sessions are looked at."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from project import views

PROBES = {"/healthz": views.healthz, "/readyz": views.readyz, "/metrics": views.metrics}


def probes(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """A load balancer asks by the address of the machine, which is in nobody's ALLOWED_HOSTS, and without TLS."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        probe = PROBES.get(request.path_info)
        return probe(request) if probe else get_response(request)

    return middleware
