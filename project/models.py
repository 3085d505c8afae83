"""The kernel's own rows: how often the configuration changed, what was counted, and who is alive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now


class Revision(models.Model):
    """One row: a number that is another one after every change of the configuration (project/configuration.py)."""

    number = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.number)


class Tally(models.Model):
    """A counter that all processes add to (project/metrics.py)."""

    name = models.CharField(max_length=100)
    labels = models.JSONField(default=dict)
    value = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "labels"], name="one_tally_per_name_and_labels")
        ]

    def __str__(self) -> str:
        return f"{self.name}{self.labels}"


class Heartbeat(models.Model):
    """When a process last said that it is alive; /readyz and `doctor` read it."""

    process = models.CharField(max_length=200, primary_key=True)
    at = models.DateTimeField(db_default=Now())
    detail = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.process

    @classmethod
    def beat(cls, process: str, **detail: Any) -> None:
        """Say that `process` is alive."""
        cls.objects.update_or_create(process=process, defaults={"at": Now(), "detail": detail})

    @classmethod
    def alive(cls, within: timedelta = timedelta(seconds=20)) -> models.QuerySet[Heartbeat]:
        """The processes heard of within that time, by PostgreSQL's clock."""
        return cls.objects.filter(at__gt=Now() - within)
