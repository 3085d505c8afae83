"""One table for each thing that the reference job records."""

from django.db import models


class Event(models.Model):
    source = models.CharField(max_length=200)
    event_id = models.CharField(max_length=200)
    type = models.CharField(max_length=200)
    data = models.JSONField()
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "event_id"], name="once")]


class Run(models.Model):
    event = models.OneToOneField(Event, on_delete=models.CASCADE)
    state = models.CharField(max_length=20, default="running")
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)


class Step(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    state = models.CharField(max_length=20)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="once_per_run")]


class Order(models.Model):
    order_id = models.CharField(max_length=100, primary_key=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    customer = models.CharField(max_length=200)
    updated_at = models.DateTimeField(auto_now=True)


class Delivery(models.Model):
    run = models.OneToOneField(Run, on_delete=models.CASCADE)
    url = models.CharField(max_length=500)
    state = models.CharField(max_length=20, default="pending")


class Attempt(models.Model):
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE)
    status = models.IntegerField()
    at = models.DateTimeField(auto_now_add=True)
