"""How runs are searched; and deliveries by what the steps that sent them belong to."""

from __future__ import annotations

from typing import Final

from django.db.models import Exists, OuterRef, Q

from notifications.searching import DELIVERIES
from project import searching
from project.searching import Condition, Field, Search, choice, named
from workflows.models import ACTIVE, Run, RunState, StepRun, Workflow
from workflows.origins import caused_by


def _uid(value: str) -> Condition:
    uid = searching.uid(value)
    runs = StepRun.objects.filter(pk=uid).values_list("run_id", flat=True)
    return Condition([Q(pk=uid), *(Q(pk=run) for run in runs)], rank=0)


STATES: Final = {
    **{state.value: Condition([Q(state=state)], rank=2) for state in RunState},  # run_by_state
    RunState.SUCCEEDED.value: Condition([Q(state=RunState.SUCCEEDED)]),  # most are; no index has them
    "queued": Condition([Q(queued=True, state__in=ACTIVE)]),
}

RUNS = Search(
    Run,
    {
        "uid": Field("its uid, or that of one of its steps", _uid),
        # one_run_per_event_subscription_and_replay
        "event": Field(
            "the uid of the event that started it", lambda value: Condition([Q(origin=searching.uid(value))], rank=0)
        ),
        # run_by_parent
        "parent": Field(
            "the uid of the run that started it", lambda value: Condition([Q(parent=searching.uid(value))], rank=0)
        ),
        # run_by_workflow
        "workflow": Field("its workflow", lambda value: Condition([Q(workflow=named(Workflow, value))], rank=3)),
        # run_by_subscription
        "subscription": Field(
            "the subscription that started it", lambda value: Condition([Q(trigger=value) & ~Q(trigger="")], rank=3)
        ),
        "state": Field(", ".join(f"`{state}`" for state in STATES), choice("state", STATES)),
    },
    words=("error", "input"),
    in_words="what it works on, which is the event, and in its error",
    keys=("uid", "event", "workflow", "subscription"),
    example="workflow:order-paid state:failed since:24h A-1001",
)


def _sent_by(**run: object) -> Condition:
    return Condition([Q(Exists(StepRun.objects.filter(pk=OuterRef("origin"), **run)))])


def _of_run(value: str) -> Condition:
    """What the run's steps sent, which one_delivery_per_step_channel_and_address knows."""
    steps = list(StepRun.objects.filter(run=searching.uid(value)).values_list("pk", flat=True))
    return Condition([Q(origin__in=steps)] if steps else [], rank=0)


def _of_event(value: str) -> Condition:
    return Condition([Q(caused_by(searching.uid(value)))], rank=0)  # the same


DELIVERIES.offer("run", Field("the uid of the run that sent it", _of_run), key=True)
DELIVERIES.offer("event", Field("the uid of the event that led to it", _of_event), key=True)
DELIVERIES.offer(
    "workflow", Field("the workflow that sent it", lambda value: _sent_by(run__workflow=named(Workflow, value)))
)
DELIVERIES.offer("subscription", Field("the subscription that led to it", lambda value: _sent_by(run__trigger=value)))
