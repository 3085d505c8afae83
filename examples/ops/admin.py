"""The example rows in the admin."""

from django.contrib import admin
from django.db import models
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

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
    """A table that grows with every order: it is never counted, nor sorted or searched by what no index has."""

    list_display = ["order_id", "amount", "customer", "paid_at", "updated_at"]
    ordering = ["order_id"]
    sortable_by = ["order_id"]
    search_fields = ["order_id__exact"]
    search_help_text = "The whole id of an order"
    readonly_fields = ["updated_at"]
    paginator = InfinitePaginator
    show_full_result_count = False
