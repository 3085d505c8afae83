"""The inbox's Django app; installed only with DEBUG=1."""

from django.apps import AppConfig


class InboxConfig(AppConfig):
    name = "project.inbox"
    label = "local_inbox"
    verbose_name = "Local inbox"
    default_auto_field = "django.db.models.BigAutoField"
