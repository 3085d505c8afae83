"""The pictures of the documentation: `make screenshots` takes them anew, of real runs in real processes.

A page is one line in PAGES: its address below /admin/, and what is done there before the picture. Each is taken light
and dark, 1280 and 390 px wide, as docs/images/NAME-THEME-WIDTH.png.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import requests
from django.db import connection
from django.utils import timezone
from playwright.sync_api import expect

from events.models import ApiKey, Event, Source
from notifications.models import Channel, Delivery
from project.embedded import free_port
from tests.browser.conftest import Admin
from tests.live import Live, wait_until
from tests.sinks import Answer, HttpSink
from workflows.models import Run

pytestmark = [pytest.mark.browser, pytest.mark.flow, pytest.mark.timeout(600)]


def as_it_is(admin: Admin) -> None:
    """Nothing has to be done before the picture."""


def dry_run(admin: Admin) -> None:
    """Try another filter on what came in the last day."""
    admin.write("filter", "event.data.amount >= 500.0 && event.data.customer == 'Ada'")
    admin.page.click("#dry_run [name=days][value='1']")
    expect(admin.page.locator("#dry_run")).to_contain_text("Looked at all")


PAGES: Final = {
    "dashboard": ("", as_it_is),
    "trace": ("events/event/{event}/change/", as_it_is),
    "run": ("workflows/run/{run}/change/", as_it_is),
    "dry-run": ("events/subscription/{subscription}/change/", dry_run),
    "workflow": ("workflows/workflow/{workflow}/change/", as_it_is),
}
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
WIDTHS: Final = (1280, 390)

MINUTES: Final = 55
CUSTOMERS: Final = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Katherine")
SKUS: Final = {"SKU-7": "Desk lamp", "SKU-12": "Bulb, warm white", "SKU-31": "Notebook"}

# Beside the examples: a far side that is sometimes wrong, one that is not there, and a workflow that refuses.
MORE: Final = """\
kind: Channel
name: crm
description: Customer care's own system.
type: webhook
settings: {{url: "{sink}"}}
retry_schedule: [0s, 1s]
---
kind: Channel
name: pager
description: Wakes whoever is on call.
type: webhook
settings: {{url: "{nobody}"}}
---
kind: Workflow
name: refund-check
description: Have nobody refunded twice
steps:
  - {{id: look, action: record.put, with: {{collection: refunds, key: "${{{{ event.data.order_id }}}}", value: seen}}}}
  - {{id: refuse, if: event.data.amount > 1900.0, action: fail, with: {{message: "This order was refunded before."}}}}
  - {{id: tell, action: notify, with: {{to: ["channel:crm"], template: order-paid}}}}
---
kind: Workflow
name: on-call
description: Wake somebody for the largest orders
steps:
  - {{id: wake, action: notify, with: {{to: ["channel:pager"], template: large-order}}}}
---
kind: Subscription
name: refund-checks
types: [order.paid]
filter: event.data.amount > 600.0
workflow: refund-check
---
kind: Subscription
name: night-watch
types: [order.paid]
filter: event.data.amount > 1950.0
workflow: on-call
"""


@dataclass(frozen=True)
class Shop:
    """Who sends events."""

    url: str
    key: str

    def sell(self, orders: list[dict[str, Any]]) -> None:
        events = [{"type": "order.paid", "subject": order["order_id"], "data": order} for order in orders]
        headers = {"Authorization": f"Bearer {self.key}"}
        requests.post(f"{self.url}/api/v1/events", json=events, headers=headers, timeout=10).raise_for_status()


def orders() -> Iterator[dict[str, Any]]:
    """The same ones every time."""
    chance = random.Random(7)
    for number in range(1000, 100_000):
        sku = chance.choice(list(SKUS))
        yield {
            "order_id": f"A-{number}",
            "amount": round(chance.lognormvariate(5.3, 0.9), 2),
            "customer": chance.choice(CUSTOMERS),
            "items": [{"sku": sku, "name": SKUS[sku], "quantity": chance.randint(1, 3)}],
        }


def an_hour_passes(shop: Shop) -> None:
    """An hour's events in a minute: what was counted of a burst is moved to a minute of its own in the last hour."""
    chance, sold = random.Random(8), orders()
    began = timezone.now().replace(second=0, microsecond=0)
    for back in range(MINUTES, 0, -1):
        shop.sell([next(sold) for _ in range(chance.randint(8, 30))])
        time.sleep(1.1)  # counters are flushed every second
        with connection.cursor() as cursor:
            cursor.execute(
                """
                WITH fresh AS (DELETE FROM project_minute WHERE minute >= %s RETURNING name, value)
                INSERT INTO project_minute (minute, name, value)
                SELECT %s, name, sum(value) FROM fresh GROUP BY name
                """,
                [began, began - timedelta(minutes=back)],
            )


def the_event_to_show(shop: Shop) -> Event:
    """An order that is large enough for some subscriptions, and comes to a good end."""
    order = {
        "order_id": "A-4711",
        "amount": 240.5,
        "currency": "EUR",
        "customer": "Ada",
        "items": [{"sku": "SKU-7", "name": "Desk lamp", "quantity": 2}],
    }
    shop.sell([order])
    event = wait_until(lambda: Event.objects.filter(subject="A-4711", due_at=None).first(), what="it is routed")
    assert event is not None
    wait_until(Run.objects.filter(origin=event.pk, finished_at__isnull=False).exists, what="its run came to its end")
    under_way = Delivery.objects.filter(due_at__isnull=False).exclude(channel__name="pager")
    wait_until(lambda: not under_way.exists(), seconds=180, what="everything went out")
    return event


def test_take_the_pictures(live_admin: Admin, live: Live, http_sink: HttpSink, tmp_path: Path) -> None:
    http_sink.answers["/crm"] = [Answer(), Answer(), Answer(400, b'{"error": "unknown customer"}'), Answer()] * 40
    more = tmp_path / "more.yaml"
    more.write_text(MORE.format(sink=http_sink.url("/crm"), nobody=f"http://127.0.0.1:{free_port()}/"))
    live.manage("apply", "examples", str(more))
    Channel.objects.filter(name="ops-chat").update(rate_limit="")  # an hour's messages in a minute
    source = Source.objects.get(name="local")
    _, key = ApiKey.issue(source, "screenshots", ["events:write"])
    shop = Shop(live.url, key)
    an_hour_passes(shop)
    event = the_event_to_show(shop)
    names = {
        "event": event.pk,
        "run": Run.objects.filter(origin=event.pk, trigger="paid-orders").get().pk,
        "subscription": "large-orders",
        "workflow": "order-paid",
    }
    live_admin.page.on("dialog", lambda dialog: dialog.accept())  # what was tried is not saved
    for theme in THEMES:
        live_admin.page.emulate_media(color_scheme=theme)
        for name, (path, prepare) in PAGES.items():
            live_admin.open(path.format(**names))
            prepare(live_admin)
            for width in WIDTHS:
                live_admin.picture(f"{name}-{theme}-{width}", width=width)
