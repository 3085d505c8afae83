"""Whom to tell, by which channel, in what words; and what became of it, as rows."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

from project.due import Due, DueQuerySet, due_index
from project.identifiers import new_uid
from project.secrets import EncryptedJSONField

slug = RegexValidator(r"^[a-z0-9][a-z0-9._-]*\Z", "Small letters, digits, dots, dashes and underscores only.")


def default_schedule() -> list[str]:
    """When a delivery is tried: at once, and again after each of these when it failed (docs/reference/notifications.md)."""
    return ["0s", "5s", "30s", "2m", "10m", "1h", "4h", "12h"]


class Channel(models.Model):
    """A way to reach people: a type with its settings, and the lane that its deliveries travel in.

    The lane's columns (`next_at`, `hold_until`, `hold_reason`, `failing_since`) belong to the sender: whoever saves a
    channel's configuration names the fields it changed, so that the two do not overwrite each other.
    """

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    type = models.CharField(max_length=50)
    settings = EncryptedJSONField(default=dict, help_text="The type's own settings. ${NAME} is read from the environment.")
    default = models.BooleanField(default=False, help_text="Carries its type's addresses of recipients, and bare addresses.")
    enabled = models.BooleanField(default=True)
    rate_limit = models.CharField(max_length=30, blank=True, help_text="Deliveries a second, minute or hour: 1/s. Empty: no limit.")
    max_in_flight = models.PositiveIntegerField(
        default=50, validators=[MinValueValidator(1), MaxValueValidator(1000)], help_text="Deliveries under way at once."
    )
    timeout = models.PositiveIntegerField(
        default=10, validators=[MinValueValidator(1), MaxValueValidator(60)], help_text="Seconds one attempt may take."
    )
    retry_schedule = ArrayField(models.CharField(max_length=20), default=default_schedule)
    fallback = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, help_text="Takes over deliveries that failed for good."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    next_at = models.DateTimeField(db_default=Now(), editable=False)
    hold_until = models.DateTimeField(null=True, editable=False)
    hold_reason = models.TextField(blank=True, default="", editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["type"], condition=models.Q(default=True), name="one_default_channel_per_type"),
        ]

    def __str__(self) -> str:
        return self.name


class Template(models.Model):
    """What a notification says, in Liquid; `languages` overrides fields per language: {"de": {"subject": …}}."""

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    subject = models.TextField(blank=True)
    text = models.TextField(blank=True)
    html = models.TextField(blank=True, help_text="For mail. Values are escaped by themselves.")
    languages = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Recipient(models.Model):
    """A person or a group mailbox, with an address per kind of channel, and the topics it hears of."""

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    addresses = models.JSONField(default=dict, help_text='One per kind of channel: {"email": "ada@example.com"}')
    language = models.CharField(max_length=20, default="en")
    time_zone = models.CharField(max_length=60, default="UTC")
    topics = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    preferences = models.JSONField(
        default=dict, blank=True, help_text='What not to send: {"marketing": {"email": false}}, per category and kind.'
    )
    quiet_hours = models.JSONField(
        default=dict, blank=True, help_text='{"from": "22:00", "to": "07:00"} in their time zone; priority critical overrides.'
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]
        indexes: ClassVar = [GinIndex(fields=["topics"], name="recipient_by_topic")]  # who hears of a topic

    def __str__(self) -> str:
        return self.name


class DeliveryState(models.TextChoices):
    """Where a delivery stands. Only `notifications.delivery` moves it (docs/states.md)."""

    PENDING = "pending"  # due at due_at; the sender leaves it
    DELIVERED = "delivered"  # the far side said yes; the end
    FAILED = "failed"  # attempts used up or refused for good; the end, until somebody retries it
    SKIPPED = "skipped"  # never to be sent, for the stored reason (preference, duplicate); the end
    CANCELLED = "cancelled"  # somebody stopped it; the end


class Priority(models.TextChoices):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class Delivery(Due):
    """One message to one address by one channel. Its `uid` is the idempotency key that the receiver sees.

    `due_at` is set while it is pending: the next attempt, or the end of the lease of the attempt under way.
    """

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    kind = models.CharField(max_length=50, help_text="The channel's type when it was made.")
    to = models.CharField(max_length=500, blank=True, help_text="The address; empty where the channel knows where to go.")
    recipient = models.ForeignKey(Recipient, null=True, blank=True, on_delete=models.SET_NULL, db_index=False)
    origin = models.UUIDField(null=True, blank=True, help_text="What caused it: the step of a run.")
    template = models.CharField(max_length=100, blank=True)
    category = models.CharField(max_length=100, blank=True)
    priority = models.CharField(max_length=10, choices=Priority, default=Priority.NORMAL)
    dedupe_key = models.CharField(max_length=200, blank=True)
    message = models.JSONField(help_text="What is sent: {subject, text, html, data}.")
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.PENDING)
    reason = models.TextField(blank=True, default="", help_text="Why it was skipped or failed.")
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DueQuerySet["Delivery"].as_manager()

    class Meta:
        ordering = ["-uid"]
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [
            # Also the index for "the deliveries of this step".
            models.UniqueConstraint(fields=["origin", "channel", "to"], name="one_delivery_per_step_channel_and_address"),
        ]
        indexes: ClassVar = [
            # the sender's claim, lane by lane
            models.Index(fields=["channel", "due_at"], condition=models.Q(due_at__isnull=False), name="delivery_due_by_lane"),
            due_index("delivery_due"),  # backlog age
            models.Index(fields=["channel", "-uid"], name="delivery_by_channel"),  # a channel's deliveries, newest first
            # failed deliveries, newest first: the list people look at
            models.Index(fields=["-uid"], name="delivery_failed", condition=models.Q(state="failed")),
            # the last delivery with this key, for dropping duplicates
            models.Index(fields=["dedupe_key", "-created_at"], name="delivery_by_dedupe_key", condition=~models.Q(dedupe_key="")),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.to or self.channel_id} ({self.state})"


class Outcome(models.TextChoices):
    """How an attempt ended."""

    DELIVERED = "delivered"
    RETRY = "retry"  # failed, and will be tried again
    FAILED = "failed"  # failed for good


class Attempt(models.Model):
    """One try at a delivery, with what came back. Added once, never changed."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tries", db_index=False)
    number = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    outcome = models.CharField(max_length=10, choices=Outcome)
    status = models.IntegerField(null=True, blank=True, help_text="The HTTP status or SMTP code, where there was one.")
    response = models.TextField(blank=True, help_text="What came back, or what went wrong.")
    ms = models.PositiveIntegerField()

    class Meta:
        ordering = ["delivery", "number"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["delivery", "number"], name="one_row_per_attempt")]

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"
