"""What a workflow is, and what its runs did, as rows."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now

from project.due import Due, DueQuerySet, due_index
from project.identifiers import new_uid
from project.json_field import JSONField
from workflows.queries import RecordQuerySet

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
    """Where a run stands. Only `workflows.engine` moves it (docs/states.md)."""

    RUNNING = "running"  # it has steps to do, now or at due_at; the engine leaves it
    WAITING = "waiting"  # a step waits for the world or for a time; the engine leaves it when that comes
    SUCCEEDED = "succeeded"  # the end
    FAILED = "failed"  # the end, until somebody retries it
    CANCELLED = "cancelled"  # the end


class StepState(models.TextChoices):
    """Where a step of a run stands. Only `workflows.engine` moves it (docs/states.md)."""

    PENDING = "pending"  # waits for its next attempt
    RUNNING = "running"  # an outside step whose lease somebody holds
    WAITING = "waiting"  # waits for the world or for a time
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # its `if` was false
    CANCELLED = "cancelled"


class Run(Due):
    """One workflow at work on one input.

    `due_at` is set while the engine has something to do for it, now or (a retry) later.
    """

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="runs", db_constraint=False)
    version = models.ForeignKey(
        WorkflowVersion, on_delete=models.PROTECT, related_name="runs", db_index=False, db_constraint=False
    )
    origin = models.UUIDField(
        null=True, blank=True, help_text="What caused it: for runs started by a subscription, the event."
    )
    trigger = models.CharField(max_length=200, blank=True, help_text="Who started it: the subscription's name.")
    state = models.CharField(max_length=10, choices=RunState, default=RunState.RUNNING)
    input = JSONField(help_text="The document the workflow works on.")
    steps = JSONField(default=dict, blank=True, help_text="What finished steps left: {id: {state, output, error}}.")
    cursor = models.PositiveIntegerField(default=0, help_text="The position of the step to do next.")
    error = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DueQuerySet["Run"].as_manager()

    class Meta:
        ordering = ["-uid"]
        constraints: ClassVar = [
            # Also the index for "the runs of this event".
            models.UniqueConstraint(fields=["origin", "trigger"], name="one_run_per_event_and_subscription"),
        ]
        indexes: ClassVar = [
            due_index("run_due"),
            models.Index(fields=["workflow", "-uid"], name="run_by_workflow"),  # a workflow's runs, newest first
            # failed runs, newest first: the list people look at
            models.Index(fields=["-uid"], name="run_failed", condition=models.Q(state="failed")),
        ]

    def __str__(self) -> str:
        return f"{self.workflow_id} {self.uid}"


class StepRun(Due):
    """What one step did in one run. `position` counts the workflow's steps, its `on_failure` steps after the others."""

    uid = models.UUIDField(primary_key=True, default=new_uid, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="step_runs", db_index=False)
    step = models.CharField(max_length=100)
    position = models.PositiveIntegerField()
    action = models.CharField(max_length=100)
    state = models.CharField(max_length=10, choices=StepState)
    attempts = models.PositiveSmallIntegerField(default=0)
    input = JSONField(null=True, blank=True)
    output = JSONField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DueQuerySet["StepRun"].as_manager()

    class Meta:
        ordering = ["run", "position"]
        constraints: ClassVar = [
            # Also the index for "the steps of this run".
            models.UniqueConstraint(fields=["run", "step"], name="one_outcome_per_step"),
        ]
        indexes: ClassVar = [due_index("step_run_due")]

    def __str__(self) -> str:
        return f"{self.step} of {self.run_id}"


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
