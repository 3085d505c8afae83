"""What waits, and what Carillon refused, with the reason."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from carillon_outbox.models import OutgoingEvent


@admin.register(OutgoingEvent)
class OutgoingEventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # a generic of the stubs alone
    list_display = ("__str__", "subject", "emitted_at", "state", "reason")
    list_filter = (("refused_at", admin.EmptyFieldListFilter), "type")
    search_fields = ("event_id", "type", "subject")
    fields = readonly_fields = ("event_id", "type", "subject", "emitted_at", "state", "refused_at", "reason", "body")
    actions = ("send_again",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.action(description="Send again", permissions=["change"])
    def send_again(self, request: HttpRequest, events: QuerySet[Any]) -> None:
        number = events.filter(refused_at__isnull=False).update(refused_at=None, reason="")
        self.message_user(request, f"{number} will be sent again.")
