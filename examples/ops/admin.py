"""The example rows in the admin."""

from django.contrib import admin
from django.db import models
from unfold.admin import ModelAdmin

from examples.ops.models import Incident, Order


@admin.register(Incident)
class IncidentAdmin(ModelAdmin):
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}
    list_display = ["service", "status", "url", "last_event", "updated_at"]
    list_filter = ["status"]
    search_fields = ["service"]
    readonly_fields = ["updated_at"]


@admin.register(Order)
class OrderAdmin(ModelAdmin):
    list_display = ["order_id", "amount", "customer", "paid_at", "updated_at"]
    search_fields = ["order_id", "customer"]
    date_hierarchy = "paid_at"
    readonly_fields = ["updated_at"]
