"""The kernel's own rows: changes of the configuration, what was counted, who is alive, and the ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from auditlog.models import LogEntry
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


class Minute(models.Model):
    """What was counted in one minute, for charts (project/minutes.py)."""

    minute = models.DateTimeField()
    name = models.CharField(max_length=100)
    value = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            # Also the index for "from this minute on".
            models.UniqueConstraint(fields=["minute", "name"], name="one_row_per_minute_and_name")
        ]

    def __str__(self) -> str:
        return f"{self.minute:%H:%M} {self.name}"


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


class LedgerSum(models.Model):
    """How far a sum has been audited (project/ledger.py)."""

    name = models.CharField(max_length=100, primary_key=True)
    head = models.UUIDField(default=UUID(int=0))  # rows up to this uid have been audited since they settled
    swept = models.UUIDField(default=UUID(int=0))  # and up to this one once more
    as_of = models.DateTimeField(null=True)
    seconds = models.FloatField(default=0.0)
    error = models.TextField(default="")

    def __str__(self) -> str:
        return self.name


class LedgerPage(models.Model):
    """What a sum came to over a range of uids. Pages of the last hour are kept, and older ones until they balance."""

    sum = models.ForeignKey(LedgerSum, on_delete=models.CASCADE, related_name="pages", db_index=False)
    after = models.UUIDField()
    upto = models.UUIDField()
    left = models.BigIntegerField()
    right = models.BigIntegerField()
    difference = models.BigIntegerField()
    faults = models.JSONField(default=list)
    audited_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            # Also the index for "the page behind this one".
            models.UniqueConstraint(fields=["sum", "after"], name="one_page_per_beginning"),
        ]
        indexes: ClassVar = [
            # what does not balance
            models.Index(fields=["sum", "upto"], name="page_at_fault", condition=~models.Q(difference=0)),
        ]

    def __str__(self) -> str:
        return f"{self.sum_id}: {self.left} = {self.right}"


class AuditEntry(LogEntry):  # type: ignore[misc]  # django-auditlog has no types
    """A change of the configuration: who made it, when, and the difference (project/audit.py)."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = "audit entry"
        verbose_name_plural = "audit log"
        ordering = ["-timestamp", "-id"]

    def __str__(self) -> str:
        return f"{self.content_type.name} {self.object_repr}"
