"""From a definition to the version of a workflow that new runs take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from django.db import transaction

from project import documents
from workflows.actions.base import Json
from workflows.definition import Definition, DefinitionError, Problem, parse
from workflows.models import Workflow, WorkflowVersion


def publish(written: str | Mapping[str, Json], *, name: str | None = None) -> tuple[WorkflowVersion, bool]:
    """Make the definition the newest version of its workflow; returns it and whether it is new.

    Takes YAML, or the same as a mapping. A definition that says what the newest version says adds none. With `name` the
    definition must be of that workflow; a mapping may then leave its own name out. Raises DefinitionError.
    """
    text = written if isinstance(written, str) else documents.write(_named(written, name))
    definition = parse(text)
    if name is not None and definition.name != name:
        raise DefinitionError([Problem("name", 1, f'this is the workflow "{name}", not "{definition.name}"')])
    kept = definition.to_json()
    with transaction.atomic():
        workflow, _ = Workflow.objects.get_or_create(
            name=definition.name, defaults={"description": definition.description}
        )
        # One publication at a time: the next number is read and taken under the lock.
        workflow = Workflow.objects.select_for_update().get(pk=workflow.pk)
        latest = workflow.versions.first()
        # Read and written again, because an older release may have kept it without the fields of today.
        if latest is not None and _text(Definition.from_json(latest.definition).to_json()) == _text(kept):
            return latest, False
        if workflow.description != definition.description:
            workflow.description = definition.description
            workflow.save(update_fields=["description"])
        number = latest.number + 1 if latest is not None else 1
        version = WorkflowVersion.objects.create(workflow=workflow, number=number, source=text, definition=kept)
        return version, True


@lru_cache(maxsize=1024)
def load(version_id: int) -> Definition:
    """What this version does, compiled. Versions never change, so each is read once per process."""
    return Definition.from_json(WorkflowVersion.objects.values_list("definition", flat=True).get(pk=version_id))


def _text(definition: Json) -> str:
    return json.dumps(definition, sort_keys=True)  # unlike ==, tells 1 from 1.0, which differ for expressions


def _named(written: Mapping[str, Json], name: str | None) -> Mapping[str, Json]:
    return {"name": name, **written} if name is not None else dict(written)
