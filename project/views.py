"""What machines ask a web process: is it alive, is it ready, and the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from rest_framework.request import Request
from rest_framework.views import APIView

from project import health
from project.gauges import measured
from project.ledger import balances
from project.metrics import HELP
from project.models import Tally
from project.stage import stages


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    state = health.readiness()
    return JsonResponse(state, status=200 if set(state.values()) == {health.OK} else 503)


class Nowhere(APIView):
    """Any other address of the API: a problem in JSON, not Django's page."""

    authentication_classes = []
    permission_classes = []
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise Http404(f"There is nothing at {request.path}; /api/docs shows what there is.")


class Tallies(Collector):
    """The Tally rows as counters; each stage's backlog and each sum of the ledger as gauges."""

    def collect(self) -> Iterator[Metric]:
        counters: dict[str, CounterMetricFamily] = {}
        for tally in Tally.objects.order_by("name"):
            labels = sorted(tally.labels)
            family = counters.setdefault(
                tally.name, CounterMetricFamily(tally.name, HELP.get(tally.name, tally.name), labels=labels)
            )
            family.add_metric([tally.labels[label] for label in labels], tally.value)
        yield from counters.values()
        age = GaugeMetricFamily("carillon_backlog_age_seconds", "How long the oldest due row waits.", labels=["stage"])
        overdue = GaugeMetricFamily(
            "carillon_overdue_rows", "Rows due for more than a minute that nobody took.", labels=["stage"]
        )
        for stage in stages.values():
            age.add_metric([stage.name], stage.rows().backlog_age())
            overdue.add_metric([stage.name], stage.rows().overdue())
        yield from (age, overdue, *_ledger(), *measured())


def _ledger() -> Iterator[Metric]:
    difference = GaugeMetricFamily(
        "carillon_ledger_difference", "Rows that do not balance; 0 where all is well.", labels=["sum"]
    )
    age = GaugeMetricFamily("carillon_ledger_age_seconds", "How far the audit is behind.", labels=["sum"])
    took = GaugeMetricFamily("carillon_ledger_audit_seconds", "What the last audit took.", labels=["sum"])
    for balance in balances():
        difference.add_metric([balance.sum.name], balance.difference)
        if balance.as_of:
            age.add_metric([balance.sum.name], balance.age)
            took.add_metric([balance.sum.name], balance.seconds)
    yield from (difference, age, took)


_registry = CollectorRegistry(auto_describe=False)
_registry.register(Tallies())


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    try:
        return HttpResponse(generate_latest(_registry), content_type=CONTENT_TYPE_LATEST)
    except DatabaseError as error:
        return HttpResponse(f"The database is away: {error}", status=503, content_type="text/plain")
