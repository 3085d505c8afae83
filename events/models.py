"""What producers, event types, subscriptions and events are, as rows."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from events.brokers.base import Broker
from events.schemas import SchemaError, Validator
from events.sources import adapters
from events.sources.base import Adapter
from project.cron import Cron, CronError, zone_named
from project.due import Due, DueQuerySet, due_index
from project.expressions import ExpressionError, compile_expression
from project.faults import by_field, fault
from project.identifiers import OWN_SOURCE, new_uid
from project.json_field import JSONField
from project.names import unknown
from project.plugin import SettingsError, problems_here
from project.rates import Rate
from project.scopes import Scope
from project.secrets import EncryptedJSONField, EncryptedTextField, references
from workflows.models import Workflow

slug = RegexValidator(r"^[a-z0-9][a-z0-9._-]*\Z", "Small letters, digits, dots, dashes and underscores only.")
type_name = RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", "Letters, digits, dots, dashes and underscores only.")
type_pattern = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)?\*")

SECRETS: Final = ("secret", "previous_secret")  # of a source
MAX_PATH: Final = 200  # characters of the field that a wait is found by
FILTER_VARIABLES: Final = ("event",)


class Source(models.Model):
    """Who sends events. Its CloudEvents source is `/name`, which its events may extend (`/name/eu`) and never leave."""

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    adapter = models.CharField(max_length=50, default="api", help_text="How its events come in.")
    secret = EncryptedTextField(
        blank=True, default="", help_text="For signed webhooks. ${NAME} is read from the environment."
    )
    previous_secret = EncryptedTextField(
        blank=True, default="", help_text="Valid, too, while the sender changes over to a new one."
    )
    settings = EncryptedJSONField(
        default=dict, blank=True, help_text="The adapter's own settings. ${NAME} is read from the environment."
    )
    rate_limit = models.CharField(
        max_length=30, blank=True, help_text="Events a second, minute or hour: 500/s. Empty: no limit."
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of_brokers(cls) -> QuerySet[Source]:
        """Those that consume from a message broker."""
        brokers = [name for name, adapter in adapters.items() if issubclass(adapter, Broker)]
        return cls.objects.filter(adapter__in=brokers)

    def clean(self) -> None:
        if problems := by_field(self._problems()):
            raise ValidationError(problems)

    def _problems(self) -> Iterator[tuple[str, str]]:
        adapter = adapters.get(self.adapter)
        if adapter is None:
            yield "adapter", unknown("adapter", self.adapter, adapters.names())
        else:
            yield from problems_here(adapter, self.settings)
            yield from self._secret_problems(adapter)
        if self.rate_limit:
            try:
                Rate.parse(self.rate_limit)
            except ValueError as error:
                yield "rate_limit", str(error)

    def _secret_problems(self, adapter: type[Adapter]) -> Iterator[tuple[str, str]]:
        if adapter.secret and not self.secret:
            yield "secret", f"The adapter {self.adapter} needs it: {adapter.secret}"
        try:
            filled = adapter.from_settings(self.settings)
        except SettingsError:  # is told of the settings; or a variable is set only where the web runs
            return
        for name in SECRETS:
            secret = getattr(self, name)
            if adapter.secret and secret and not references(secret):
                try:
                    filled.check_secret(secret)
                except ValueError as error:
                    yield name, str(error)

    def bring_types(self, names: Collection[str] = ()) -> None:
        """Add the event types of its adapter that are not there; those that are there stay as they are.

        Also these, which it may not list, as far as they are its own.
        """
        adapter = adapters[self.adapter]
        docs = {name: doc for name in (*adapter.types, *names) if (doc := adapter.described(name))}
        there = set(EventType.objects.filter(name__in=docs).values_list("name", flat=True))
        missing = {name: doc for name, doc in docs.items() if name not in there}
        if not missing:
            return
        with transaction.atomic():  # two who bring the same at once are no error
            EventType.objects.bulk_create(
                [EventType(name=name, description=doc.description) for name, doc in missing.items()],
                ignore_conflicts=True,
            )
            EventSchema.objects.bulk_create(
                [
                    EventSchema(event_type=row, version=1, schema=missing[row.name].schema)
                    for row in EventType.objects.filter(name__in=missing)
                ],
                ignore_conflicts=True,
            )

    @property
    def uri(self) -> str:
        return f"/{self.name}"


class ApiKey(models.Model):
    """Proof of being a source. The key itself is shown once, when it is made; only its SHA-256 is kept."""

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=100, help_text="Where this key is used.")
    prefix = models.CharField(max_length=16, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=30, choices=Scope), default=list)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["source", "name"]

    def __str__(self) -> str:
        return f"{self.source} / {self.name} ({self.prefix}…)"

    @classmethod
    def issue(
        cls, source: Source, name: str, scopes: list[str], expires_in: timedelta | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key; returns its row and the key itself, which nobody can show again."""
        key = f"carillon_{secrets.token_urlsafe(32)}"
        row = cls.objects.create(
            source=source,
            name=name,
            prefix=key[:14],
            digest=cls.digest_of(key),
            scopes=scopes,
            expires_at=timezone.now() + expires_in if expires_in else None,
        )
        return row, key

    @staticmethod
    def digest_of(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()


class EventType(models.Model):
    """A kind of event that producers may send."""

    name = models.CharField(max_length=200, unique=True, validators=[type_name])
    description = models.TextField(blank=True)
    example = JSONField(null=True, blank=True, help_text="Example data, for trying things out.")
    retired = models.BooleanField(default=False, help_text="Retired types are refused with 422.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """The example has to pass the latest schema."""
        latest = self.schemas.first() if self.pk else None
        if latest is None or self.example is None:
            return
        try:
            faults = Validator(latest.schema).faults(self.example, "example")
        except SchemaError:  # its own form says so
            return
        if faults:
            raise ValidationError({"example": [f"{fault.path}: {fault.message} (schema {latest})" for fault in faults]})

    def add_schema(self, schema: Any) -> EventSchema:
        """The latest version, when it is this schema; else a new version. Raises ValidationError when it is none."""
        # Two who add at once wait for each other, so that no number is given twice.
        EventType.objects.select_for_update().get(pk=self.pk)
        latest = self.schemas.first()
        if latest is not None and latest.schema == schema:
            return latest
        added = EventSchema(event_type=self, version=latest.version + 1 if latest else 1, schema=schema)
        added.clean()
        added.save()
        return added


class EventSchema(models.Model):
    """A version of what a type's `data` must look like (JSON Schema 2020-12). Versions are added, never changed."""

    event_type = models.ForeignKey(EventType, on_delete=models.CASCADE, related_name="schemas")
    version = models.PositiveIntegerField(editable=False)
    schema = JSONField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["event_type", "-version"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event_type", "version"], name="one_schema_per_version")
        ]

    def __str__(self) -> str:
        return f"{self.event_type} v{self.version}"

    def clean(self) -> None:
        try:
            Validator(self.schema)
        except SchemaError as error:
            raise ValidationError({"schema": str(error)}) from error


class Subscription(models.Model):
    """Which events start which workflow."""

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    types = ArrayField(
        models.CharField(max_length=200),
        help_text="Event types, separated by commas; a trailing * stands for the rest: order.*",
    )
    sources = models.ManyToManyField(Source, blank=True, help_text="Only events of these sources; none chosen: of all.")
    filter = models.TextField(blank=True, help_text="A CEL expression over `event`, e.g. event.data.amount > 100.0")
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="subscriptions")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        wrong: dict[str, Any] = {"types": problems} if (problems := self._wrong_types()) else {}
        if self.filter:
            try:
                compile_expression(self.filter, FILTER_VARIABLES)
            except ExpressionError as error:
                message = f"line {error.line}, column {error.column}: {error.message}"
                wrong["filter"] = fault("", message, line=error.line)
        if wrong:
            raise ValidationError(wrong)

    def _wrong_types(self) -> list[str]:
        exact = [name for name in self.types if "*" not in name]
        known = set(EventType.objects.values_list("name", flat=True)) if exact else set()
        return [unknown("event type", name, sorted(known)) for name in exact if name not in known] + [
            f'"{name}" is no pattern: a * stands only at the end, as in order.*'
            for name in self.types
            if "*" in name and not type_pattern.fullmatch(name)
        ]


class Schedule(Due):
    """A time that comes again, and the event that it then makes.

    `due_at` is its next time; NULL while it is disabled. `clean` sets it, `events.scheduling` moves it on.
    """

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    cron = models.CharField(
        max_length=200, help_text="Minute, hour, day of the month, month, day of the week: 0 9 * * MON-FRI"
    )
    time_zone = models.CharField(max_length=60, default="UTC", help_text="Whose clock: UTC, Europe/London")
    type = models.CharField("event type", max_length=200)
    source = models.CharField(
        max_length=500, default=OWN_SOURCE, help_text=f"{OWN_SOURCE}, a source's address, or something below it."
    )
    subject = models.CharField(max_length=100, blank=True)
    data = JSONField(null=True, blank=True, help_text="The event's data, the same every time.")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_fired_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_event = models.UUIDField(null=True, blank=True, editable=False, help_text="The event it made last.")
    error = models.TextField(blank=True, default="", editable=False, help_text="Why the last time made no event.")

    objects = DueQuerySet["Schedule"].as_manager()

    class Meta:
        ordering = ["name"]
        indexes: ClassVar = [due_index("schedule_due")]

    def __str__(self) -> str:
        return self.name

    @property
    def times(self) -> Cron:
        """Its times. Raises CronError or LookupError when it was stored unchecked, and has none."""
        return Cron(self.cron, zone_named(self.time_zone))

    def clean(self) -> None:
        wrong: dict[str, Any] = {}
        try:
            zone_named(self.time_zone)
        except LookupError as error:
            wrong["time_zone"] = str(error)
        try:
            Cron(self.cron, ZoneInfo("UTC"))
        except CronError as error:
            wrong["cron"] = str(error)
        wrong |= self._wrong_event()
        if wrong:
            raise ValidationError(wrong)
        self.due_at = self._planned()

    def _wrong_event(self) -> dict[str, Any]:
        wrong: dict[str, Any] = {}
        top = f"/{self.source.split('/')[1]}" if self.source.startswith("/") else self.source
        known = [OWN_SOURCE, *(source.uri for source in Source.objects.exclude(name=OWN_SOURCE[1:]))]
        if top not in known:
            wrong["source"] = unknown("source", top, known)
        kind = EventType.objects.filter(name=self.type).first()
        if kind is None:
            wrong["type"] = unknown("event type", self.type, list(EventType.objects.values_list("name", flat=True)))
        elif kind.retired:
            wrong["type"] = f'the event type "{self.type}" is retired'
        elif latest := kind.schemas.first():
            faults = Validator(latest.schema).faults(self.data, "")
            if faults:
                wrong["data"] = [fault(each.path, f"{each.message} (schema {latest})") for each in faults]
        return wrong

    def _planned(self) -> datetime | None:
        """Its next time: as it was, when nothing of what decides it was changed, because that may be overdue."""
        if not self.enabled:
            return None
        before = Schedule.objects.filter(pk=self.pk, cron=self.cron, time_zone=self.time_zone, enabled=True).first()
        return before.due_at if before and before.due_at else self.times.next(timezone.now())


class Event(Due):
    """Something that happened, as its producer told it: a CloudEvent and what became of it. Added once, never changed.

    `due_at` is set while the event waits to be routed.
    """

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    source = models.CharField(max_length=500)
    event_id = models.CharField("id", max_length=200)
    type = models.CharField(max_length=200)
    subject = models.CharField(max_length=500, blank=True)
    time = models.DateTimeField(
        help_text="When it happened, by the producer's clock; when that is not told, when it was received."
    )
    dataschema = models.CharField(max_length=500, blank=True)
    data = JSONField(null=True, blank=True)
    extensions = JSONField(default=dict, blank=True)
    depth = models.PositiveSmallIntegerField(
        default=0, editable=False, help_text="How many runs and emitted events led to it; 0: it came from outside."
    )
    received_at = models.DateTimeField(db_default=Now())

    routed_at = models.DateTimeField(null=True, blank=True)
    verdicts = JSONField(default=list, blank=True, help_text="What each subscription said, and why.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Times that routing failed as a whole.")
    error = models.TextField(blank=True, default="")

    objects = DueQuerySet["Event"].as_manager()

    class Meta:
        ordering = ["-uid"]
        constraints: ClassVar = [
            # Also the index for "the events with this id", whoever sent them.
            models.UniqueConstraint(fields=["event_id", "source"], name="an_event_counts_once"),
        ]
        indexes: ClassVar = [
            due_index("event_due"),
            models.Index(fields=["type", "-uid"], name="event_by_type"),  # lists filtered by type, newest first
            models.Index(fields=["source", "-uid"], name="event_by_source"),  # lists filtered by source, newest first
            # lists filtered by subject, newest first
            models.Index(fields=["subject", "-uid"], name="event_by_subject", condition=~models.Q(subject="")),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.uid}"

    def envelope(self) -> dict[str, Any]:
        """The event as CloudEvents 1.0 JSON: what filters, workflows and templates know as `event`.

        Plus its `uid`, and its `depth` when a step emitted it.
        """
        envelope = {
            "specversion": "1.0",
            "id": self.event_id,
            "source": self.source,
            "type": self.type,
            "time": self.time.isoformat().replace("+00:00", "Z"),
            "uid": str(self.uid),
            "data": self.data,
            **self.extensions,
        }
        if self.subject:
            envelope["subject"] = self.subject
        if self.dataschema:
            envelope["dataschema"] = self.dataschema
        if self.depth:
            envelope["depth"] = self.depth
        return envelope


class Replay(Due):
    """An event that is heard again: by all subscriptions, or by one. The runs that it starts have its `number`.

    `due_at` is set while it waits to be routed, like an event's. What became of the event the first time stays.
    """

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="replays", db_index=False)
    number = models.PositiveSmallIntegerField(help_text="Counts the event's replays, from 1.")
    subscription = models.CharField(max_length=100, blank=True, help_text="Only this one is asked; empty: all.")
    by = models.CharField(max_length=200, help_text="Who asked for it.")
    key = models.CharField(max_length=200, blank=True, help_text="Asked for again with the same key, it is this one.")
    made_at = models.DateTimeField(db_default=Now())

    routed_at = models.DateTimeField(null=True, blank=True)
    verdicts = JSONField(default=list, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Times that routing failed as a whole.")
    error = models.TextField(blank=True, default="")

    objects = DueQuerySet["Replay"].as_manager()

    class Meta:
        ordering = ["event", "number"]
        constraints: ClassVar = [
            # Also the index for "the replays of this event".
            models.UniqueConstraint(fields=["event", "number"], name="one_replay_per_number"),
            models.UniqueConstraint(
                fields=["event", "key"], condition=~models.Q(key=""), name="a_replay_is_asked_for_once"
            ),
        ]
        indexes: ClassVar = [due_index("replay_due")]

    def __str__(self) -> str:
        return f"replay {self.number} of {self.event_id}"


class Original(models.Model):
    """The webhook call that an event is a translation of, beside it and not in it: whoever routes never reads it."""

    event = models.OneToOneField(Event, primary_key=True, on_delete=models.CASCADE, related_name="original")
    headers = JSONField(default=dict, help_text="Those that the adapter keeps; never one that is a password.")
    body = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"what brought {self.event_id}"


class LetterState(models.TextChoices):
    """What became of a message that could not be an event."""

    WAITING = "waiting"  # for a person, who tries it again or discards it (events/dead_letters.py)
    STORED = "stored"  # it was tried again, and is an event; the end
    DISCARDED = "discarded"  # nobody wants it; who thinks better of it tries it again


class DeadLetter(models.Model):
    """A message of a broker that could not be an event, as it came, with the reason.

    Added in the transaction that stores its neighbours, before the broker is told that it arrived.
    """

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    source = models.CharField(max_length=100, help_text="The name of the source that it came by.")
    position = models.CharField(max_length=300, help_text="What the broker knows it by.")
    reason = models.TextField(help_text="Why it could not be an event, the last time it was tried.")
    headers = JSONField(default=dict, blank=True)
    about = JSONField(default=dict, blank=True, help_text="What expressions know as `message`.")
    content_type = models.CharField(max_length=200, blank=True)
    body = models.BinaryField(help_text="The message, or its beginning where no event may be so large.")
    size = models.PositiveIntegerField(help_text="Bytes that the message has.")
    received_at = models.DateTimeField(db_default=Now())

    state = models.CharField(max_length=20, choices=LetterState, default=LetterState.WAITING)
    settled_at = models.DateTimeField(null=True, blank=True, help_text="When it was stored or discarded.")
    settled_by = models.CharField(max_length=200, blank=True, help_text="Who had it tried again, or discarded it.")
    event = models.UUIDField(null=True, blank=True, editable=False, help_text="The first event that it became.")

    class Meta:
        ordering = ["-uid"]
        constraints: ClassVar = [
            # A message that comes again, because the process died before the broker heard of it, is no second one.
            models.UniqueConstraint(fields=["source", "position"], name="one_dead_letter_per_message"),
        ]
        indexes: ClassVar = [
            # how many wait, by source, and the list of them
            models.Index(fields=["source", "-uid"], name="dead_letter_waiting", condition=models.Q(state="waiting")),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.position}"

    @property
    def whole(self) -> bool:
        """Whether all of the message was kept."""
        return self.size == len(self.body)


class EventWait(models.Model):
    """A step that waits for an event, as the router finds it. A trigger removes it when its step waits no longer.

    Where `match` says that a field of the event equals something, the row is found by that: `path` is the field and
    `key` a hash of the value, so that an event meets only the waits that its own values name.
    """

    step = models.UUIDField(primary_key=True, editable=False)  # the step run's uid; it is stored after this row
    type = models.CharField(max_length=200)
    path = models.CharField(
        max_length=MAX_PATH, blank=True, help_text="A field that has to equal `value`, as a JSON list."
    )
    key = models.CharField(max_length=32, blank=True)
    value = JSONField(null=True, blank=True)
    match = models.TextField(blank=True, help_text="A CEL expression over `incoming` and what the run knows.")
    seen = JSONField(default=dict, help_text="What `match` reads of the run.")
    origin = models.UUIDField(null=True, blank=True, help_text="The event that started the run, which never counts.")
    since = models.DateTimeField(help_text="Events received before do not count.")

    class Meta:
        indexes: ClassVar = [
            # an event's waits: which fields are waited on for its type, then the waits with its values
            models.Index(fields=["type", "path", "key"], name="event_wait_by_value"),
        ]

    def __str__(self) -> str:
        return f"{self.step} waits for {self.type}"
