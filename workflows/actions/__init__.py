"""What a step can do: one file per action, found by walking this package and every installed app's `actions.py`."""

from project.registry import Registry
from workflows.actions.base import (
    Action,
    Call,
    Child,
    MembersOf,
    Named,
    NetworkAction,
    OutsideAction,
    Rehearsal,
    StepError,
    Stop,
    Wait,
)

actions: Registry[Action] = Registry("action", package="workflows.actions", app_module="actions")
action = actions.register

__all__ = [
    "Action",
    "Call",
    "Child",
    "MembersOf",
    "Named",
    "NetworkAction",
    "OutsideAction",
    "Rehearsal",
    "StepError",
    "Stop",
    "Wait",
    "action",
    "actions",
]
