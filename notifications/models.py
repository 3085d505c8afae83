"""Whom to tell, by which channel, in what words; and what became of it, as rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import ClassVar, Final

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now
from pydantic import ValidationError as PydanticError

from notifications.channels import channel_types
from notifications.queries import ChannelQuerySet, DeliveryQuerySet, RecoveryQuerySet
from notifications.rendering import check_template
from project.cron import zone_named
from project.due import Due, due_index
from project.faults import by_field
from project.identifiers import new_uid
from project.json_field import JSONField
from project.names import unknown
from project.plugin import problems_here
from project.rates import Rate
from project.retry import Schedule
from project.secrets import EncryptedJSONField

slug = RegexValidator(r"^[a-z0-9][a-z0-9._-]*\Z", "Small letters, digits, dots, dashes and underscores only.")

LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")  # as in RFC 5646, without its rarer forms
TIME_OF_DAY: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def default_schedule() -> list[str]:
    """When a delivery is tried: at once, and again after each of these when it failed."""
    return ["0s", "5s", "30s", "2m", "10m", "1h", "4h", "12h"]


class Channel(models.Model):
    """A way to reach people: a type with its settings, and the lane that its deliveries travel in.

    The lane's columns (`next_at`, `hold_until`, `hold_reason`, `failures`, `failing_since`) belong to the sender, those
    of its pause to notifications/pause.py: whoever saves a channel's configuration names the fields it changed, so that
    they do not overwrite each other.
    """

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    type = models.CharField(max_length=50)
    settings = EncryptedJSONField(
        default=dict, blank=True, help_text="The type's own settings. ${NAME} is read from the environment."
    )
    default = models.BooleanField(
        default=False, help_text="Carries its type's addresses of recipients, and bare addresses."
    )
    enabled = models.BooleanField(default=True)
    rate_limit = models.CharField(
        max_length=30, blank=True, help_text="Deliveries a second, minute or hour: 1/s. Empty: no limit."
    )
    max_in_flight = models.PositiveIntegerField(
        default=50,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Deliveries under way at once.",
    )
    timeout = models.PositiveIntegerField(
        default=10, validators=[MinValueValidator(1), MaxValueValidator(60)], help_text="Seconds one attempt may take."
    )
    retry_schedule = ArrayField(models.CharField(max_length=20), default=default_schedule)
    fallback = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        help_text="Takes over deliveries that failed for good.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    next_at = models.DateTimeField(db_default=Now(), editable=False)
    hold_until = models.DateTimeField(null=True, editable=False)
    hold_reason = models.TextField(blank=True, default="", editable=False)
    failures = models.PositiveSmallIntegerField(
        default=0, editable=False, help_text="In a row; notifications/lanes.py."
    )
    failing_since = models.DateTimeField(null=True, editable=False)
    paused_at = models.DateTimeField(null=True, editable=False)
    pause_reason = models.CharField(max_length=200, blank=True, default="", editable=False)

    objects = ChannelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["type"], condition=models.Q(default=True), name="one_default_channel_per_type"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if problems := by_field(self._problems()):
            raise ValidationError(problems)

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        others = Channel.objects.filter(type=self.type, default=True).exclude(pk=self.pk)
        if self.default and (other := others.first()):  # said better than by the constraint
            raise ValidationError({"default": f"The default channel of the type {self.type} is {other}; there is one."})
        super().validate_constraints(exclude)

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.type not in channel_types:
            yield "type", unknown("channel type", self.type, channel_types.names())
        else:
            yield from problems_here(channel_types[self.type], self.settings)
        if self.rate_limit:
            try:
                Rate.parse(self.rate_limit)
            except ValueError as error:
                yield "rate_limit", str(error)
        try:
            Schedule.model_validate(self.retry_schedule)
        except PydanticError as error:
            for problem in error.errors():
                yield "retry_schedule", str(problem["msg"]).removeprefix("Value error, ")
        yield from self._fallback_problems()

    def _fallback_problems(self) -> Iterator[tuple[str, str]]:
        way = [self.name]
        channel = self.fallback
        while channel is not None:
            way.append(channel.name)
            if channel.pk == self.pk or channel.name in way[:-1]:
                yield "fallback", f"goes in a circle: {' → '.join(way)}"
                return
            channel = channel.fallback


class Template(models.Model):
    """What a notification says, in Liquid; `languages` overrides fields per language: {"de": {"subject": …}}."""

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    subject = models.TextField(blank=True)
    text = models.TextField(blank=True)
    html = models.TextField(blank=True, help_text="For mail. Values are escaped by themselves.")
    languages = JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        problems = check_template(subject=self.subject, text=self.text, html=self.html, languages=self.languages)
        for language in self.languages if isinstance(self.languages, dict) else ():
            if not LANGUAGE.fullmatch(language):
                problems.append((f"languages.{language}", _not_a_language(language)))
        if problems:
            raise ValidationError(by_field(problems))


class Recipient(models.Model):
    """A person or a group mailbox, with an address per kind of channel, and the topics it hears of."""

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    addresses = JSONField(default=dict, blank=True, help_text='One per kind of channel: {"email": "ada@example.com"}')
    language = models.CharField(max_length=20, default="en")
    time_zone = models.CharField(max_length=60, default="UTC")
    topics = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    preferences = JSONField(
        default=dict, blank=True, help_text='What not to send: {"marketing": {"email": false}}, per category and kind.'
    )
    quiet_hours = JSONField(
        default=dict,
        blank=True,
        help_text='{"from": "22:00", "to": "07:00"} in their time zone; priority critical overrides.',
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]
        indexes: ClassVar = [GinIndex(fields=["topics"], name="recipient_by_topic")]  # who hears of a topic

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if problems := by_field(self._problems()):
            raise ValidationError(problems)

    def _problems(self) -> Iterator[tuple[str, str]]:
        yield from self._address_problems()
        if not LANGUAGE.fullmatch(self.language):
            yield "language", _not_a_language(self.language)
        try:
            zone_named(self.time_zone)
        except LookupError as error:
            yield "time_zone", str(error)
        for topic in self.topics:
            try:
                slug(topic)
            except ValidationError as error:
                yield "topics", f'"{topic}": {error.message}'
        yield from self._preference_problems()
        yield from self._quiet_problems()

    def _address_problems(self) -> Iterator[tuple[str, str]]:
        if not isinstance(self.addresses, dict):
            yield "addresses", 'must be an object like {"email": "ada@example.com"}'
            return
        kinds = {name: kind for name, kind in channel_types.items() if kind.address is not None}
        for name, address in self.addresses.items():
            if name not in kinds:
                yield f"addresses.{name}", unknown("kind of address", name, kinds)
            elif not isinstance(address, str):
                yield f"addresses.{name}", f"must be text, an {kinds[name].address}"
            else:
                try:
                    kinds[name].check_address(address)
                except ValueError as error:
                    yield f"addresses.{name}", str(error)

    def _preference_problems(self) -> Iterator[tuple[str, str]]:
        if not isinstance(self.preferences, dict):
            yield "preferences", 'must be an object like {"marketing": {"email": false}}'
            return
        for category, kinds in self.preferences.items():
            path = f"preferences.{category}"
            if not isinstance(kinds, dict):
                yield path, 'must say for each kind of channel whether: {"email": false}'
                continue
            for name, wanted in kinds.items():
                if name not in channel_types:
                    yield f"{path}.{name}", unknown("channel type", name, channel_types.names())
                elif not isinstance(wanted, bool):
                    yield f"{path}.{name}", "must be true or false"

    def _quiet_problems(self) -> Iterator[tuple[str, str]]:
        if self.quiet_hours == {}:
            return
        if not isinstance(self.quiet_hours, dict) or set(self.quiet_hours) != {"from", "to"}:
            yield "quiet_hours", 'must be an object with from and to, like {"from": "22:00", "to": "07:00"}'
            return
        for name, time in self.quiet_hours.items():
            if not isinstance(time, str) or not TIME_OF_DAY.fullmatch(time):
                yield f"quiet_hours.{name}", f"{time!r} is not a time of day from 00:00 to 23:59"
        if self.quiet_hours["from"] == self.quiet_hours["to"]:
            yield "quiet_hours", "begin and end at the same time"


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

    `due_at` is set while it is pending: the next attempt, or the end of the lease of the attempt under way (`leased`).
    """

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    kind = models.CharField(max_length=50, help_text="The channel's type when it was made.")
    to = models.CharField(
        max_length=500, blank=True, help_text="The address; empty where the channel knows where to go."
    )
    recipient = models.ForeignKey(Recipient, null=True, blank=True, on_delete=models.SET_NULL, db_index=False)
    origin = models.UUIDField(null=True, blank=True, help_text="What caused it: the step of a run.")
    template = models.CharField(max_length=100, blank=True)
    category = models.CharField(max_length=100, blank=True)
    priority = models.CharField(max_length=10, choices=Priority, default=Priority.NORMAL)
    dedupe_key = models.CharField(max_length=200, blank=True)
    message = JSONField(help_text="What is sent: {subject, text, html, data}.")
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.PENDING)
    reason = models.TextField(blank=True, default="", help_text="Why it was skipped or failed.")
    attempts = models.PositiveSmallIntegerField(default=0)
    forgiven = models.PositiveSmallIntegerField(
        default=0, help_text="Attempts that do not count: before a retry by hand, or broken off."
    )
    leased = models.BooleanField(default=False, help_text="An attempt is under way until due_at, or its process died.")
    instead_of = models.UUIDField(null=True, blank=True, help_text="The delivery that this one stands in for.")
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-uid"]
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [
            # Also the index for "the deliveries of this step".
            models.UniqueConstraint(
                fields=["origin", "channel", "to"], name="one_delivery_per_step_channel_and_address"
            ),
            models.UniqueConstraint(
                fields=["instead_of"], condition=models.Q(instead_of__isnull=False), name="one_stand_in_per_delivery"
            ),
        ]
        indexes: ClassVar = [
            # the sender's claim, lane by lane; and what is pending
            models.Index(
                fields=["channel", "due_at"], condition=models.Q(due_at__isnull=False), name="delivery_due_by_lane"
            ),
            models.Index(
                fields=["channel", "due_at"], condition=models.Q(leased=True), name="delivery_under_way"
            ),  # a lane's leases
            models.Index(
                fields=["channel", "-uid"], name="delivery_by_channel"
            ),  # a channel's deliveries, newest first
            # what went to an address, newest first
            models.Index(fields=["to", "-uid"], name="delivery_by_address", condition=~models.Q(to="")),
            # what went to a recipient, newest first; and what forgets one that is deleted
            models.Index(
                fields=["recipient", "-uid"],
                name="delivery_by_recipient",
                condition=models.Q(recipient__isnull=False),
            ),
            # failed deliveries, newest first: the list people look at
            models.Index(fields=["-uid"], name="delivery_failed", condition=models.Q(state="failed")),
            # skipped and cancelled ones, newest first: few, among all the others
            models.Index(
                fields=["-uid"], name="delivery_not_sent", condition=models.Q(state__in=["skipped", "cancelled"])
            ),
            # what failed in a channel since a time, for sending it again
            models.Index(
                fields=["channel", "finished_at"], name="delivery_to_recover", condition=models.Q(state="failed")
            ),
            # the last delivery with this key, for dropping duplicates
            models.Index(
                fields=["dedupe_key", "-created_at"], name="delivery_by_dedupe_key", condition=~models.Q(dedupe_key="")
            ),
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

    # Nothing to check: the statement that adds attempts asks for their deliveries.
    delivery = models.ForeignKey(
        Delivery, on_delete=models.CASCADE, related_name="tries", db_index=False, db_constraint=False
    )
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


class Recovery(Due):
    """Failed deliveries of a channel that somebody has sent again, a batch at a time (notifications/recovery.py).

    `due_at` is set while some are left.
    """

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="recoveries", db_index=False)
    since = models.DateTimeField(help_text="What failed from then on …")
    until = models.DateTimeField(db_default=Now(), help_text="… and up to then: what fails again is not sent again.")
    found = models.PositiveIntegerField(help_text="How many there were at the beginning; counted up to a bound.")
    sent = models.PositiveIntegerField(default=0, help_text="How many have been made due again so far.")
    started_by = models.CharField(max_length=200, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RecoveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "recoveries"
        indexes: ClassVar = [
            due_index("recovery_due"),
            models.Index(fields=["channel", "-until"], name="recovery_by_channel"),  # a channel's last one
        ]

    def __str__(self) -> str:
        return f"{self.channel} since {self.since:%Y-%m-%d %H:%M}"


def _not_a_language(name: str) -> str:
    return f'"{name}" is not a language tag; write for example en, de or pt-BR'
