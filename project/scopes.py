"""What API keys may be allowed."""

from django.db import models


class Scope(models.TextChoices):
    """What an API key may do."""

    EVENTS_WRITE = "events:write", "send events"
    EVENTS_READ = "events:read", "read events and traces"
    CONFIG_READ = "config:read", "read the configuration"
    CONFIG_WRITE = "config:write", "change the configuration"
    RUNS_WRITE = "runs:write", "start, cancel and retry runs, replay events, retry deliveries"
