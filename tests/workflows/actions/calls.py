"""Calling actions as the engine does: filled from JSON, for a batch of runs."""

from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction

from project.identifiers import new_uid
from workflows.actions import Call, actions


def call(context: Mapping[str, Any] | None = None, *, depth: int = 0) -> Call:
    return Call(new_uid(), new_uid(), workflow="w", step="step", attempt=1, context=context or {}, depth=depth)


def run(
    action: str, *settings: Mapping[str, Any], context: Mapping[str, Any] | None = None, depth: int = 0
) -> list[Any]:
    """The outputs of one batch with these settings."""
    cls = actions[action]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return cls.run_batch([(cls.model_validate(one), call(context, depth=depth)) for one in settings])


def run_one(action: str, **settings: Any) -> Any:
    [output] = run(action, settings)
    return output


def problems(action: str, **settings: Any) -> dict[str, str]:
    """What the action says of these settings when a workflow is saved."""
    return dict(actions[action].check(settings))
