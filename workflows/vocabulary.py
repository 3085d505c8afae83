"""What somebody who writes a workflow can write: the language and the actions as JSON Schemas, and names that exist.

The editor completes from it. A field says what it takes by `Named("templates")` or `MembersOf("model")`
(workflows/actions/base.py); an app that has names of another kind registers them:

    @named("couriers")
    def couriers() -> Names:
        return {courier.name: {"about": courier.area} for courier in Courier.objects.all()[:MOST_NAMES]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from django.conf import settings
from django.db.models import F, Func, TextField

from notifications.channels import channel_types
from notifications.models import Channel, Recipient, Template
from workflows import rows
from workflows.actions import actions
from workflows.definition import ALL_VARIABLES, Definition
from workflows.models import Workflow

Json: TypeAlias = Any
Names: TypeAlias = Mapping[str, Mapping[str, Json]]
"""By name: `about`, a few words for a person, and `members`, the names inside it, each with a few words."""

MOST_NAMES: Final = 1000  # of one kind

_kinds: dict[str, Callable[[], Names]] = {}


def named(kind: str) -> Callable[[Callable[[], Names]], Callable[[], Names]]:
    """Register what tells the names of one kind."""

    def register(tell: Callable[[], Names]) -> Callable[[], Names]:
        _kinds[kind] = tell
        return tell

    return register


def vocabulary() -> dict[str, Json]:
    """The JSON document. Its schemas are made once per process; the names are read anew, a query for each kind."""
    return {**_language(), "names": {kind: tell() for kind, tell in sorted(_kinds.items())}}


@lru_cache(maxsize=1)
def _language() -> dict[str, Json]:
    return {
        "definition": Definition.model_json_schema(),
        "actions": {name: cls.model_json_schema() for name, cls in actions.items()},
        "variables": list(ALL_VARIABLES),
    }


# --- the names of the kinds that actions of this package take ---------------------------------------------------------


@named("models")
def _models() -> Names:
    """Those that workflows may write, with their fields."""
    found: dict[str, Mapping[str, Json]] = {}
    for label in settings.WORKFLOW_MODELS:
        model = rows.permitted(label)
        members = {name: field.get_internal_type() for name, field in rows.fields(model).items()}
        found[label] = {"about": str(model._meta.verbose_name_plural), "members": members}
    return found


@named("databases")
def _databases() -> Names:
    return {name: {"about": database.dialect} for name, database in settings.WORKFLOW_DATABASES.items()}


@named("tasks")
def _tasks() -> Names:
    return {name: {"about": "WORKFLOW_TASKS"} for name in settings.WORKFLOW_TASKS if "*" not in name}


@named("workflows")
def _workflows() -> Names:
    return _rows(Workflow)


@named("templates")
def _templates() -> Names:
    return _rows(Template)


@named("channels")
def _channels() -> Names:
    return {
        name: {"about": f"{kind} · {description}" if description else kind}
        for name, kind, description in Channel.objects.values_list("name", "type", "description")[:MOST_NAMES]
    }


@named("broker channels")
def _broker_channels() -> Names:
    """Those that `publish` takes."""
    kinds = {name for name, kind in channel_types.items() if "event" in kind.parts}
    publishing = set(Channel.objects.filter(type__in=kinds).values_list("name", flat=True))
    return {name: told for name, told in _channels().items() if name in publishing}


@named("targets")
def _targets() -> Names:
    """What `to` of a notification takes."""
    topics = Recipient.objects.annotate(topic=Func(F("topics"), function="unnest", output_field=TextField()))
    known = topics.order_by("topic").values_list("topic", flat=True).distinct()[:MOST_NAMES]
    return {
        **{f"channel:{name}": told for name, told in _channels().items()},
        **{f"topic:{name}": {"about": "who hears of it"} for name in known},
        **{f"recipient:{name}": told for name, told in _rows(Recipient).items()},
        **{f"{name}:": {"about": kind.address} for name, kind in channel_types.items() if kind.address},
    }


def _rows(model: type[Any]) -> Names:
    pairs = model.objects.order_by("name").values_list("name", "description")[:MOST_NAMES]
    return {name: {"about": description} for name, description in pairs}
