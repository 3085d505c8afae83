"""Which deliveries an event caused: deliveries know the step that made them, and runs the event that started them."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.db.models import BooleanField
from django.db.models.expressions import RawSQL


def caused_by(event: UUID) -> RawSQL:
    """A condition on deliveries: made by steps of the event's runs, or of runs that these started."""
    return RawSQL(_CAUSED, [event], output_field=BooleanField())


# The ORM has no recursion. An array, rather than a join, has the planner begin with the steps' deliveries instead of
# reading all of them from the newest on until it has a page.
_CAUSED: Final = """
notifications_delivery.origin = ANY (ARRAY(
    WITH RECURSIVE family (uid) AS (
        SELECT uid FROM workflows_run WHERE origin = %s
        UNION
        SELECT child.uid FROM workflows_run AS child JOIN family ON child.parent = family.uid
    )
    SELECT step.uid FROM family JOIN workflows_steprun AS step ON step.run_id = family.uid
))
"""
