"""A Celery application of somebody else: it shares the broker with Carillon, and knows nothing of it."""

import os
import time
from typing import Any

from celery import Celery

app = Celery("billing", broker=os.environ["BROKER"])
app.conf.task_default_queue = "billing"
app.conf.worker_hijack_root_logger = False
# Whoever used Celery long ago has such settings.
app.conf.task_serializer = "pickle"
app.conf.result_serializer = "pickle"
app.conf.accept_content = ["json", "pickle"]


@app.task(name="billing.charge", bind=True)
def charge(self: Any, customer: str, amount: float = 1.0, seconds: float = 0.0) -> dict[str, Any]:
    time.sleep(seconds)
    if amount < 0:
        raise ValueError("a negative amount")
    return {"customer": customer, "charged": amount, "id": self.request.id}
