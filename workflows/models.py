"""What a workflow is, and what its runs did, as rows."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Coalesce, Now
from django.utils.timezone import localtime

from project.due import Due, DueQuerySet, due_index
from project.identifiers import made_at, new_uid
from project.json_field import JSONField
from project.timestamps import time_of
from workflows.queries import RecordQuerySet, StepRunQuerySet

slug = RegexValidator(r"^[a-z0-9][a-z0-9._-]*\Z", "Small letters, digits, dots, dashes and underscores only.")


class Workflow(models.Model):
    """A named sequence of steps. What the steps are stands in its versions; new runs take the newest."""

    name = models.CharField(max_length=100, unique=True, validators=[slug])
    description = models.TextField(blank=True)
    enabled = models.BooleanField(default=True, help_text="A disabled workflow starts no runs; the trace says so.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class WorkflowVersion(models.Model):
    """What a workflow does, as of one publication. Never changed: a run keeps the version it started with."""

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(editable=False)
    source = models.TextField(help_text="The YAML as it was written.")
    definition = JSONField(editable=False, help_text="The same, checked and in full.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["workflow", "-number"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["workflow", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"{self.workflow} v{self.number}"


class RunState(models.TextChoices):
    """Where a run stands. Only `workflows.work` moves it (docs/states.md)."""

    RUNNING = "running"  # it has steps to do, now or at due_at; the engine leaves it
    WAITING = "waiting"  # a step waits for the world or for a time; the engine leaves it when that comes
    SUCCEEDED = "succeeded"  # the end
    FAILED = "failed"  # the end, until somebody retries it
    CANCELLED = "cancelled"  # the end


ACTIVE = (RunState.RUNNING, RunState.WAITING)
"""A run that is not at its end."""


class StepState(models.TextChoices):
    """Where a step of a run stands. `workflows.work` moves it, and what stands outside `workflows.performing`, too."""

    PENDING = "pending"  # waits for its next attempt; the engine leaves it, or a performer when it is outside
    RUNNING = "running"  # outside: a performer holds its lease, and leaves it with its outcome
    WAITING = "waiting"  # waits for the world or for a time; the engine leaves it when that comes
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # its `if` was false
    CANCELLED = "cancelled"  # it was under way when its run failed elsewhere or was cancelled


UNDER_WAY = (StepState.PENDING, StepState.RUNNING, StepState.WAITING)
"""A step that has begun and is not at its end."""


class Lane(models.TextChoices):
    """Who looks at a step that is due."""

    ENGINE = "", "engine"  # the engine, when the run is due
    CODE = "code"  # a performer in a process of its own, which can be stopped
    NETWORK = "network"  # a performer that waits for many far sides in one loop


class Run(Due):
    """One workflow at work on one input.

    `due_at` is set while the engine has something to do for it, now or (a retry) later.
    """

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    workflow = models.ForeignKey(
        Workflow, on_delete=models.PROTECT, related_name="runs", db_constraint=False, db_index=False
    )
    version = models.ForeignKey(
        WorkflowVersion, on_delete=models.PROTECT, related_name="runs", db_index=False, db_constraint=False
    )
    origin = models.UUIDField(
        null=True, blank=True, help_text="What caused it: for runs started by a subscription, the event."
    )
    trigger = models.CharField(max_length=200, blank=True, help_text="Who started it: the subscription's name.")
    replay = models.PositiveSmallIntegerField(
        default=0, help_text="Which replay of its origin started it; 0: none, it was the first time."
    )
    state = models.CharField(max_length=10, choices=RunState, default=RunState.RUNNING)
    input = JSONField(help_text="The document the workflow works on.")
    steps = JSONField(default=dict, blank=True, help_text="What steps left so far: {id: {state, output, error}}.")
    error = models.TextField(blank=True, default="")
    round = models.PositiveSmallIntegerField(default=0, help_text="How often somebody had it retried.")
    depth = models.PositiveSmallIntegerField(default=0, help_text="How many runs and emitted events led to it.")
    parent = models.UUIDField(null=True, blank=True, help_text="The run whose step (its origin) started it.")
    slot = models.CharField(max_length=300, blank=True, default="", help_text="Its concurrency key.")
    queued = models.BooleanField(default=False, help_text="It has not begun: others with its key are at work.")
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DueQuerySet["Run"].as_manager()

    class Meta:
        ordering = ["-uid"]
        constraints: ClassVar = [
            # Also the index for "the runs of this event".
            models.UniqueConstraint(
                fields=["origin", "trigger", "replay"], name="one_run_per_event_subscription_and_replay"
            ),
        ]
        indexes: ClassVar = [
            due_index("run_due"),
            models.Index(fields=["workflow", "-uid"], name="run_by_workflow"),  # a workflow's runs, newest first
            # a subscription's runs, newest first
            models.Index(fields=["trigger", "-uid"], name="run_by_subscription", condition=~models.Q(trigger="")),
            # runs in a state, newest first: the failed ones are the list people look at. Most runs succeed at once, and
            # are never in it.
            models.Index(fields=["state", "-uid"], name="run_by_state", condition=~models.Q(state="succeeded")),
            # who works under a concurrency key, and who is next
            models.Index(
                fields=["slot", "uid"],
                name="run_by_slot",
                condition=~models.Q(slot="") & models.Q(state__in=["running", "waiting"]),
            ),
            # how many runs of a version are under way
            models.Index(
                fields=["version"],
                name="run_going_by_version",
                condition=models.Q(state__in=["running", "waiting"]),
            ),
            # the children of a run
            models.Index(fields=["parent"], name="run_by_parent", condition=models.Q(parent__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.workflow} of {localtime(made_at(self.uid)):%Y-%m-%d %H:%M:%S}"


MOST_TURNS: Final = 50  # that are remembered of a step which waits or fails again and again: the newest


class StepRun(Due):
    """What one step did in one run, for one item of its list if it loops.

    `due_at` says when its next attempt is to be made or its wait is over; `lane`, who does that. `position` sorts them.
    """

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    # Nothing to check: a step is stored together with its run, or by whoever has locked the run.
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="step_runs", db_index=False, db_constraint=False
    )
    step = models.CharField(max_length=100)
    position = models.PositiveIntegerField()
    item = models.PositiveIntegerField(null=True, blank=True, help_text="Its place in the list of `for_each`, from 0.")
    round = models.PositiveSmallIntegerField(default=0, help_text="The run's, when the step began.")
    lane = models.CharField(max_length=10, choices=Lane, default=Lane.ENGINE, blank=True)
    action = models.CharField(max_length=100)
    state = models.CharField(max_length=10, choices=StepState)
    attempts = models.PositiveSmallIntegerField(default=0)
    input = JSONField(null=True, blank=True)
    output = JSONField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    turns = JSONField(
        null=True, blank=True, help_text="When it failed for a time, or began to wait: {at, to, until, error}."
    )
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = StepRunQuerySet.as_manager()

    class Meta:
        ordering = ["run", "round", "position", "item"]
        constraints: ClassVar = [
            # Also the index for "the steps of this run".
            models.UniqueConstraint(
                "run", "step", "round", Coalesce("item", models.Value(-1)), name="one_outcome_per_step_and_item"
            ),
        ]
        indexes: ClassVar = [
            # what a lane's performers claim
            models.Index(
                fields=["lane", "due_at"],
                name="step_run_due_by_lane",
                condition=models.Q(due_at__isnull=False) & ~models.Q(lane=""),
            )
        ]

    def __str__(self) -> str:
        return f"{self.step} of {self.run_id}"

    def turn(self, at: datetime) -> None:
        """Remember that it did not come to its end: its state, `due_at` and `error` say what it came to instead."""
        told = {"at": time_of(at), "to": str(self.state), "until": time_of(self.due_at), "error": self.error}
        self.turns = [*(self.turns or ()), told][-MOST_TURNS:]


class Gate(Due):
    """What runs that name the same key share: a digest's first run, a throttle's last turns.

    `due_at` is the time from which nobody needs it any more.
    """

    key = models.CharField(max_length=500, primary_key=True)
    value = JSONField(default=dict)

    objects = DueQuerySet["Gate"].as_manager()

    class Meta:
        indexes: ClassVar = [due_index("gate_due")]

    def __str__(self) -> str:
        return self.key


class Gathered(models.Model):
    """What one run brought to a digest. The digest's first run takes it along when the time comes."""

    uid = models.UUIDField(primary_key=True, help_text="The step run that brought it.")
    gate = models.CharField(max_length=500)
    value = JSONField(null=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["gate", "uid"], name="gathered_by_gate")]  # what a digest takes along

    def __str__(self) -> str:
        return f"{self.uid} at {self.gate}"


class Record(models.Model):
    """A document kept by `record.*` steps: Carillon's own read models."""

    collection = models.CharField(max_length=100)
    key = models.CharField(max_length=200)
    value = JSONField()
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(db_default=Now())

    objects = RecordQuerySet.as_manager()

    class Meta:
        ordering = ["collection", "key"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["collection", "key"], name="one_record_per_key")]

    def __str__(self) -> str:
        return f"{self.collection}/{self.key}"
