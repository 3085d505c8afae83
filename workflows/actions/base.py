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
What it returns (JSON) is `steps.<id>.output` for the steps after it. Raise `StepError` for a failure that a person
should read; any other exception fails the step as well.

Settings with `${{ }}` are evaluated for each run before the class is filled, so its fields have their plain types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict

Json: TypeAlias = Any


class StepError(Exception):
    """A step cannot be done. `permanent`: trying again would not help, so no retry is made."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Call:
    """One run that is at this step."""

    uid: UUID  # of the step run: the same on every attempt, so it serves as an idempotency key
    run: UUID
    step: str
    attempt: int
    context: Mapping[str, Json]  # what expressions and templates see: event, steps, run


class Action(BaseModel):
    """One kind of step. Subclasses declare their settings as fields and override `run` or `run_batch`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]

    @classmethod
    def check(cls, given: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
        """Say what is wrong with a step's `with` when a workflow is saved, as (path, message) pairs.

        Names and types of fields have been checked. `given` is as it was written: values may be `${{ }}` (test with
        `project.expressions.is_dynamic`), which can only be checked when the step runs.
        """
        return ()

    def run(self, call: Call) -> Json:
        """Do the step for one run; returns its output."""
        raise TypeError(f"{type(self).__name__} overrides neither run nor run_batch")

    @classmethod
    def run_batch(cls, calls: Sequence[tuple[Self, Call]]) -> list[Json]:
        """Do the step for all these runs, set-wise where that pays; returns their outputs in order.

        An exception undoes the whole batch, which is then done one by one: so the one at fault fails alone.
        """
        return [settings.run(call) for settings, call in calls]
