"""Which workflows fail. The answer looks at so many runs and no more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from django.utils import timezone

from project.bounded import Group, groups
from project.identifiers import first_uid_at
from workflows.models import Run, RunState

DAY: Final = timedelta(days=1)


def failures() -> Sequence[Group]:
    """The failed ones of the runs that began in the last day, by the workflow's key; `first` is the newest."""
    failed = Run.objects.filter(state=RunState.FAILED, uid__gte=first_uid_at(timezone.now() - DAY))
    return groups(failed.order_by("-uid"), "workflow_id")
