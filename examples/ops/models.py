"""The rows that the example workflows change: how a team's own models look beside Carillon."""

from django.db import models
from django.db.models.functions import Now


class Incident(models.Model):
    """What is wrong with a service at the moment: one row per service."""

    service = models.CharField(max_length=200, unique=True)
    status = models.CharField(max_length=50)
    url = models.URLField(max_length=1000, blank=True)
    last_event = models.CharField(max_length=200, blank=True, help_text="The id of the event that changed it last.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["service"]

    def __str__(self) -> str:
        return f"{self.service}: {self.status}"


class Order(models.Model):
    """An order that was paid."""

    order_id = models.CharField(max_length=100, primary_key=True)
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    customer = models.CharField(max_length=200, blank=True)
    paid_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "orders_paid"
        ordering = ["-paid_at"]

    def __str__(self) -> str:
        return self.order_id
