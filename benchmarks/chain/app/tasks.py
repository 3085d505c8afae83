"""The chain: route, write the row, send the webhook. Late acknowledgement, so that a killed worker loses little."""

import json

import requests
from celery import chain
from django.conf import settings
from django.utils import timezone
from standardwebhooks import Webhook

from benchmarks.chain.app.models import Attempt, Delivery, Event, Order, Run, Step
from benchmarks.chain.celery import app

session = requests.Session()


@app.task
def route(event_id: int) -> None:
    event = Event.objects.get(pk=event_id)
    if event.type == "order.paid" and event.data["amount"] > 100.0:
        run, _ = Run.objects.get_or_create(event=event)
        chain(record.si(run.pk), tell.si(run.pk)).delay()


@app.task
def record(run_id: int) -> None:
    run = Run.objects.select_related("event").get(pk=run_id)
    data = run.event.data
    Order.objects.update_or_create(
        order_id=data["order_id"], defaults={"amount": data["amount"], "customer": data["customer"]}
    )
    Step.objects.get_or_create(run=run, name="record", defaults={"state": "succeeded"})


@app.task(bind=True, max_retries=5)
def tell(self, run_id: int) -> None:
    run = Run.objects.select_related("event").get(pk=run_id)
    delivery, _ = Delivery.objects.get_or_create(run=run, defaults={"url": settings.SINK_URL})
    now = timezone.now()
    body = json.dumps({"type": run.event.type, "timestamp": now.isoformat(), "data": run.event.data})
    headers = {
        "content-type": "application/json",
        "webhook-id": str(delivery.pk),
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").sign(str(delivery.pk), now, body),
    }
    try:
        answer = session.post(settings.SINK_URL, data=body, headers=headers, timeout=10)
    except requests.RequestException as error:
        raise self.retry(exc=error, countdown=5) from error
    Attempt.objects.create(delivery=delivery, status=answer.status_code)
    delivery.state = "delivered" if answer.ok else "failed"
    delivery.save()
    Step.objects.get_or_create(run=run, name="tell", defaults={"state": "succeeded"})
    run.state, run.finished_at = "succeeded", timezone.now()
    run.save()
