"""The chain: route, write the row, send the webhook. Late acknowledgement, so that a killed worker loses little."""

import json

import requests
from celery import chain
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from standardwebhooks import Webhook

from benchmarks.chain.app.models import Attempt, Delivery, Event, Order, Run, Step
from benchmarks.chain.celery import app

session = requests.Session()
webhook = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


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
    order = Order(order_id=data["order_id"], amount=data["amount"], customer=data["customer"])
    with transaction.atomic():
        # One statement; update_or_create takes two or three and a savepoint.
        Order.objects.bulk_create(
            [order],
            update_conflicts=True,
            unique_fields=["order_id"],
            update_fields=["amount", "customer", "updated_at"],
        )
        done(run, "record")


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
        "webhook-signature": webhook.sign(str(delivery.pk), now, body),
    }
    try:
        answer = session.post(settings.SINK_URL, data=body, headers=headers, timeout=10)
    except requests.RequestException as error:
        raise self.retry(exc=error, countdown=5) from error
    with transaction.atomic():
        Attempt.objects.create(delivery=delivery, status=answer.status_code)
        Delivery.objects.filter(pk=delivery.pk).update(state="delivered" if answer.ok else "failed")
        done(run, "tell")
        Run.objects.filter(pk=run.pk).update(state="succeeded", finished_at=timezone.now())


def done(run: Run, step: str) -> None:
    """Record the step once, in one statement: a task that is delivered again must not fail here."""
    Step.objects.bulk_create([Step(run=run, name=step, state="succeeded")], ignore_conflicts=True)
