"""What people and programs ask of runs: start one with any input, cancel many, retry many."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Max, QuerySet

from project.identifiers import new_uid
from workflows import engine
from workflows.actions.base import Json
from workflows.models import ACTIVE, Run, Workflow
from workflows.work import Start

AT_A_TIME: Final = 200  # runs cancelled in one transaction, which holds their locks


class CannotStart(ValueError):
    """The workflow is there, but starts no runs; the message says why."""


def start(name: str, given: dict[str, Json], *, by: str) -> Run:
    """Start a run of the newest version of the workflow; `by` is told as its trigger.

    It is stored, and done by the workers. Raises Workflow.DoesNotExist and CannotStart.
    """
    workflow = Workflow.objects.annotate(newest=Max("versions")).get(name=name)  # later versions have greater keys
    if not workflow.enabled:
        raise CannotStart(f'The workflow "{name}" is disabled.')
    if not workflow.newest:
        raise CannotStart(f'The workflow "{name}" has no published version.')
    with transaction.atomic():
        (run,) = engine.start([Start(workflow.pk, workflow.newest, given, trigger=by)], at_once=False)
    return run


def cancel(runs: QuerySet[Run], *, reason: str) -> int:
    """End these runs where they stand, however many; returns how many were not at their end.

    Some at a time, each time in a transaction of its own: what stops it halfway leaves those cancelled that were. Runs
    that start meanwhile go on.
    """
    before, cancelled = new_uid(), 0
    while uids := list(runs.filter(state__in=ACTIVE, pk__lt=before).values_list("pk", flat=True)[:AT_A_TIME]):
        cancelled += engine.cancel(Run.objects.filter(pk__in=uids), reason=reason)
    return cancelled


def descendants(uids: Collection[UUID]) -> int:
    """How many runs, not at their end, these runs started, and those started in their turn."""
    found = 0
    while uids := list(Run.objects.filter(parent__in=uids, state__in=ACTIVE).values_list("pk", flat=True)):
        found += len(uids)
    return found


def retry(uids: Iterable[UUID], *, newest: bool) -> list[UUID]:
    """Have those of the runs that failed or were cancelled go on; returns which."""
    retried = []
    for uid in uids:
        try:
            retried.append(engine.retry(uid, newest=newest).uid)
        except (engine.NotEnded, Run.DoesNotExist):
            continue
    return retried
