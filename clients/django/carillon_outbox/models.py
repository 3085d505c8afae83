"""Events that Carillon does not have yet, as rows: written with what happened, deleted when Carillon has them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class OutgoingEvent(models.Model):
    """An event on its way. The sender (sending.py) deletes it when Carillon has it.

    One that Carillon refuses is kept with the reason until somebody has it sent again, in the admin, or deletes it.
    """

    event_id = models.CharField("id", max_length=200, help_text="Fixed from the beginning: sent twice, it counts once.")
    type = models.CharField(max_length=200)
    subject = models.CharField(max_length=500, blank=True)
    body = models.TextField(help_text="The event as it is sent, in JSON.")
    emitted_at = models.DateTimeField(default=timezone.now)
    refused_at = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True, default="", help_text="Why Carillon refused it.")

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["refused_at", "id"], name="outgoing_event_next")]  # what the sender takes

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"

    @property
    def state(self) -> str:
        return "waiting" if self.refused_at is None else "refused"
