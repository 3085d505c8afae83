"""What the inbox received, as rows."""

from typing import Any, Self

from django.db import models
from django.db.models.functions import Now

KEPT = 500


class MessageQuerySet(models.QuerySet["Message"]):
    """Messages, newest first."""

    def newest_first(self) -> Self:
        return self.order_by("-id")

    def keep(self, **fields: Any) -> "Message":
        """Store a message and forget all but the newest KEPT."""
        message = self.create(**fields)
        self.filter(id__lte=message.id - KEPT).delete()
        return message


class Message(models.Model):
    """A mail or a chat message that reached the inbox."""

    class Kind(models.TextChoices):
        EMAIL = "email"
        CHAT = "chat"

    kind = models.CharField(max_length=10, choices=Kind)
    to = models.TextField()
    subject = models.TextField(blank=True)
    text = models.TextField(blank=True)
    html = models.TextField(blank=True)
    headers = models.JSONField(default=dict)
    received_at = models.DateTimeField(db_default=Now())

    objects = MessageQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.kind} to {self.to}"
