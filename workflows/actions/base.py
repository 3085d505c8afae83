"""The base of all actions, and its manual.

An action is a class whose fields are what a step writes under `with`, and whose `run` does it:

    @action("wallet.credit")
    class Credit(Action):
        customer: str
        amount: Decimal

        def run(self, call: Call) -> Json:
            Wallet.objects.filter(customer=self.customer).update(balance=F("balance") + self.amount)
            return {"credited": str(self.amount)}

`run` is called inside the engine's transaction: what it changes in the database is committed together with the record
that the step is done, so it happens exactly once whatever dies when. It must not talk to the world outside PostgreSQL.
What it returns (JSON) is `steps.<id>.output` for the steps after it; it may also return a turn, `Wait`, `Stop` or
`Child`. Raise `StepError` for a failure that a person should read; any other exception fails the step as well.

What talks to the world is an `OutsideAction`: its `perform` is called after the commit, by a performer that holds a
lease on the step, at least once. `call.key` is the same on every attempt, for the far side to know a repetition by:

    @action("billing.charge")
    class Charge(OutsideAction):
        customer: str
        amount: Decimal

        def perform(self, call: Call) -> Json:
            charge = billing.charge(self.customer, self.amount, idempotency_key=call.key)
            return {"charge": charge.id}

It runs in a process that may be stopped when the step's `timeout` is over. A `NetworkAction` is one whose `perform` is
asynchronous and waits for the network; hundreds share one process.

Settings with `${{ }}` are evaluated for each run before the class is filled, so its fields have their plain types.

The editor of workflows completes the fields and tells their docstrings. A field that takes the name of something says
of what, `template: Annotated[str, Named("templates")]` (workflows/vocabulary.py), and `rehearse` says what a test run
shows in place of doing the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from project.retry import RetryPolicy
from project.transport import Transport

Json: TypeAlias = Any


class StepError(Exception):
    """A step cannot be done. `permanent`: trying again would not help, so no retry is made."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Call:
    """One run that is at this step."""

    uid: UUID  # of the step run: the same on every attempt
    run: UUID
    workflow: str
    step: str
    attempt: int
    context: Mapping[str, Json]  # what expressions and templates see: event, steps, run
    item: int | None = None  # the place in the list of `for_each`
    depth: int = 0  # how many runs and emitted events led to the run

    @property
    def key(self) -> str:
        """Names this step of this run for ever, also when somebody has the run retried: an idempotency key."""
        return f"{self.run}/{self.step}" if self.item is None else f"{self.run}/{self.step}/{self.item}"

    def gate(self, key: str) -> str:
        """Names what the runs at this step have in common under `key` (workflows/gates.py)."""
        return f"{self.workflow}/{self.step}:{key}"


@dataclass(frozen=True, slots=True)
class Wait:
    """The step waits, until somebody completes it (`workflows.waits.complete`) or the time comes; None: it never does.

    When the time comes, the action's `wake` is called with `output`, and what it returns is the step's output.
    """

    until: datetime | None = None
    output: Json = None


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends here, succeeded; the steps after this one are not done."""

    output: Json = None


@dataclass(frozen=True, slots=True)
class Child:
    """Another workflow is started with this input. The step ends when that run does, or at once without `wait`."""

    workflow: str
    input: Mapping[str, Json]
    wait: bool = True


Turn: TypeAlias = Wait | Stop | Child


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a step would do, told by a test run, which does not do it.

    `would` goes on after "would": "add a row to ops.Order"; empty for a step that changes nothing and was done. The
    output is `sure` when the step would leave just that now, an `example` when only its form is right, or `unknown`.
    """

    would: str = ""
    output: Json = None
    known: Literal["sure", "example", "unknown"] = "sure"
    deliveries: Sequence[Mapping[str, Json]] = ()  # as stories tell them (notifications/story.py)


def Named(kind: str) -> Any:  # stands in annotations, like Field
    """The field takes the names of one kind that `workflows.vocabulary` knows: "templates", "models" …"""
    return Field(json_schema_extra={"names": kind})


def MembersOf(field: str) -> Any:
    """The field's keys, or the field itself, are members of what `field` of the same step names: a model's fields."""
    return Field(json_schema_extra={"members_of": field})


class Action(BaseModel):
    """One kind of step. Subclasses declare their settings as fields and override `run` or `run_batch`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: ClassVar[str]

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        """Say what is wrong with a step's `with` when a workflow is saved, as (path, message) pairs.

        Names and types of fields have been checked. `given` is as it was written: values may be `${{ }}` (test with
        `project.expressions.is_dynamic`), which can only be checked when the step runs.
        """
        return ()

    def run(self, call: Call) -> Json | Turn:
        """Do the step for one run; returns its output, or the turn it takes."""
        raise TypeError(f"{type(self).__name__} overrides neither run nor run_batch")

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json | Turn]:
        """Do the step for all these runs, set-wise where that pays; returns what `run` would, in order.

        An exception undoes the whole batch, which is then done one by one: so the one at fault fails alone.
        """
        return [settings.run(call) for settings, call in calls]

    def wake(self, call: Call, output: Json) -> Json | Turn:
        """The time of the step's `Wait` has come; returns its output, which is the wait's unless overridden."""
        return output

    def rehearse(self, call: Call) -> Rehearsal:
        """Say what the step would do. Raises StepError where it would fail.

        It may read the database, in a transaction that PostgreSQL keeps from writing, and touches nothing else. What
        does not override it has an unknown output, which whoever tests the workflow makes up.
        """
        return Rehearsal(f"do {self.name}", known="unknown")


class Performed(Action):
    """A step that a performer does after the commit, because it changes something outside Carillon's database."""

    lane: ClassVar[str]
    default_retry: ClassVar[RetryPolicy] = RetryPolicy(attempts=3, delay=timedelta(seconds=10))
    """What applies to steps that say nothing of `retry`. A performer that died has used up an attempt, too."""
    default_timeout: ClassVar[timedelta] = timedelta(seconds=60)
    """How long an attempt may take when the step has no `timeout`."""


class OutsideAction(Performed):
    """A step done by ordinary code in a process of its own. Subclasses override `perform`."""

    lane: ClassVar[str] = "code"

    def perform(self, call: Call) -> Json | Wait:
        """Do the step, outside any transaction; returns its output, or a `Wait` for what somebody else completes."""
        raise TypeError(f"{type(self).__name__} does not override perform")


class NetworkAction(Performed):
    """A step that waits for the network, with many others in one event loop. Subclasses override `perform`."""

    lane: ClassVar[str] = "network"
    default_timeout: ClassVar[timedelta] = timedelta(seconds=30)

    async def perform(self, call: Call, transport: Transport) -> Json | Wait:
        """Do the step by what `transport` keeps open. It must not touch the database, nor block."""
        raise TypeError(f"{type(self).__name__} does not override perform")


Key: TypeAlias = Annotated[str, Field(max_length=300, coerce_numbers_to_str=True)]
"""What runs have in common that `throttle`, `debounce` or `digest` treat together; empty: all runs of the workflow."""


def longer_than_nothing(duration: timedelta) -> timedelta:
    if not duration:
        raise ValueError("must be longer than 0s")
    return duration
